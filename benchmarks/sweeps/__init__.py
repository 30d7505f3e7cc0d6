"""The sweeps that claims read: their prompts, scorers, tables, and the scripts that generate them."""
