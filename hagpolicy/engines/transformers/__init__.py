"""The engine on transformers: many configs and prompts in one batch."""
