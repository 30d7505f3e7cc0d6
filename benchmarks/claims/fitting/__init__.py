"""Claims about fitting and evaluation."""
