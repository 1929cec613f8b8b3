"""The paper's listening study: `python -m experiments.listening`."""
