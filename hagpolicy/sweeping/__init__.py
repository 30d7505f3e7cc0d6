"""Filling a sweep folder: which cells next (`plan`), driving the engine (`drive`), the verbs (`run`)."""
