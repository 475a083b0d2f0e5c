"""Results to the PACS, and its word that it holds them."""
