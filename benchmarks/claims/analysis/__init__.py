"""Claims about what a table tells without a learner."""
