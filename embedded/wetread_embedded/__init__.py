"""A real Triton Inference Server on any CPU, for development and tests."""
