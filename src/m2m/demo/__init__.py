"""The web page of `m2m demo`: pictures in, image sets out, in a browser."""
