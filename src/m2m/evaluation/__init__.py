"""Measuring generated image sets: the probe that reads off a picture what it shows, and quality by its readings."""
