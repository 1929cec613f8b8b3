"""Sampling songs: decoding, constraints, tasks."""
