"""The protocol as a model. `python -m tests.model` explores it and prints what it finds."""
