"""Baselines that ask or measure an LLM, and learners that were tried: compared in benchmarks only."""
