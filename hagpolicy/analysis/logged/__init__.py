"""What logged decisions tell: the value of another policy, and which arm of an experiment is better."""
