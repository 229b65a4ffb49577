"""A trained model as one ONNX file: written, checked against the model it came from, read again, and asked."""
