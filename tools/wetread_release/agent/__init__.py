"""The release agent: the only one that writes a served copy, loads, heals and swaps beside a Triton."""
