"""Policies from tables: encoders, learners, baselines, the gate and the export."""
