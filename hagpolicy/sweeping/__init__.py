"""Sweeps: which cells come next (`plan`), the engine driven through them (`drive`), what callers call (`run`)."""
