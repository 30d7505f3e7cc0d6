"""What a table tells, without a learner."""
