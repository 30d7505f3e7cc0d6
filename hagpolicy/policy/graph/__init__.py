"""The ONNX graph of a policy: read into known parts, checked, and written anew for onnxruntime."""
