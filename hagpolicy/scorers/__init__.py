"""Scorers: completion (and reference) to reward."""
