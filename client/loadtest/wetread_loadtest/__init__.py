"""Load on a gateway and its Triton as hospitals make it: by the clock, whatever became of what was sent before."""
