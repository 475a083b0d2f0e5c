"""Model outputs to probabilities, heatmap and novelty."""
