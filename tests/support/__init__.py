"""What several tests use: oracles, servers, corpora, fuzzing. No tests."""
