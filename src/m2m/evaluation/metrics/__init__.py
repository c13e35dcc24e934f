"""Measures of features: distances between samples, scores of classes, similarities, and intervals over the sets."""
