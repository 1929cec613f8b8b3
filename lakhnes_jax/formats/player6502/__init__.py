"""A sound driver for the NES: register writes per frame, compressed."""
