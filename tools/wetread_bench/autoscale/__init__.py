"""Simulation of Triton pods, their shared worklist and the autoscaler: pure, seeded, no cluster."""
