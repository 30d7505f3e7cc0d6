"""Which cells to generate next, where not all are wanted."""
