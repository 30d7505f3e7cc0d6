"""What was looked into without a promise, and the list of what is fitted and compared."""
