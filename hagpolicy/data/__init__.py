"""What a sweep is made of and what is kept of it."""
