"""The tiny world's truth: sets whose captions say what must be seen, the probe that sees it, and what follows."""
