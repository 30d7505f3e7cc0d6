"""Claims, each measured by a script, and what they are measured on."""
