"""Image sets out of shards, for training: `dataset` is what is used, `order` the order it is read in, with its cursor.

Nothing is imported here: `shard_files` and `shard_groups` are read by commands that need no torch.
"""
