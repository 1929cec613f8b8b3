"""A corpus on disk, and batches of token ids from it."""
