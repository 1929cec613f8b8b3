"""Weights and checkpoints on disk, ours and the original's."""
