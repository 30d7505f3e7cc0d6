"""Baselines that ask or measure an LLM: compared in benchmarks only."""
