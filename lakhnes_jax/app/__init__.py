"""A page on this machine that asks a model for songs: `lakhnes_jax.app`."""
