"""Instants, and the functions that are called at them. Enter at `times`."""
