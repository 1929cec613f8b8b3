"""The 2A03 sound chip: scores to registers to samples."""
