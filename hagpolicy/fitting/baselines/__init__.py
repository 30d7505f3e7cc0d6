"""Baselines: other ways to choose a config, compared with the policy."""
