"""Engines: a frozen LLM behind one interface."""
