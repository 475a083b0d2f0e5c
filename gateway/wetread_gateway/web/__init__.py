"""The HTTP door: STOW-RS, readings on request, what became of a study, and metrics."""
