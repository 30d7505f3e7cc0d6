"""Scorers that read the text alone."""
