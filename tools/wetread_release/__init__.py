"""Build engines, pass the gate, publish, promote, roll back; and the agent that carries it out beside each Triton."""
