"""An LLM as the judge of answers."""
