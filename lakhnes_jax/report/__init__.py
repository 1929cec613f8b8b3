"""Pictures and pages about songs and runs."""
