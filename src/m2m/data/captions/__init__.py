"""Captions of image sets: read from files, sifted, given ids, and stored as splits."""
