"""Scorers that run what was generated, in a sandbox."""
