"""What is made from prompts before a policy is fitted: artefacts, hints, spaces."""
