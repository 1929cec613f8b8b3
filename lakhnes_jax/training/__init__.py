"""Training a model in a run directory, and evaluating it."""
