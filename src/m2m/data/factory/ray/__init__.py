"""The build on many machines: a driver with a queue of shards, and actors that make them, one a GPU."""
