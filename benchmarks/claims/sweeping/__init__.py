"""Claims about sweeps."""
