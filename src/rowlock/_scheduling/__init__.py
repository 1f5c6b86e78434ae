"""Instants, what is due at them, and the functions that are called. Enter at `plan`."""
