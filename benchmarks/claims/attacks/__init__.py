"""Claims about what is done to the library, and what comes of it."""
