"""The command line: one file a command, and `main`, which loads only the one that runs."""
