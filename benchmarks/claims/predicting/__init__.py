"""Claims about prediction in production."""
