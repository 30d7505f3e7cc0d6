"""Encoders: prompts to features, each a part of the one ONNX graph."""
