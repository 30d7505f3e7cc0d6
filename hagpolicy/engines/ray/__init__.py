"""The engine that spreads another one over a Ray cluster."""
