"""What a sweep will cost, how far it is, and what it came to."""
