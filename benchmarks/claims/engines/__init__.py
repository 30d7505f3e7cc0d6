"""Claims about engines."""
