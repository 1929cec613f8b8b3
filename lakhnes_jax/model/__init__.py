"""Transformer-XL, what its tokens come with, and its decoding layers."""
