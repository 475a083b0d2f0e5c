"""From the PACS and back: take studies in, have them read, write the results back, lose none."""
