"""Learners: features to the expected reward of every config."""
