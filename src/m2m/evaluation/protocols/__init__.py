"""What is asked of a model, protocol by protocol: which sets, what is given, how long it goes on, what it meets."""
