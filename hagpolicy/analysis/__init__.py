"""What a table shows without a learner: estimates, comparisons, headroom, evaluation, portfolios."""
