"""Work is leased, read on Triton, and its reading made durable."""
