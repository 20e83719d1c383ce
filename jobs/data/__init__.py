"""From data files to batches of token ids."""
