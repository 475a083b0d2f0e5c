"""Train, evaluate and export the reference classifier."""
