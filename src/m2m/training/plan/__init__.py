"""What a run would take before it is started: memory a device, floating point operations, hours."""
