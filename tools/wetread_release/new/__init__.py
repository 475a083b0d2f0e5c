"""A whole pipeline out of somebody's own ONNX model: what the file tells, what a human must, and what follows."""
