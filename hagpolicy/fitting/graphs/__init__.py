"""Building, joining and checking the one ONNX graph of a policy."""
