"""Timed claims, `python -m benchmarks drain|field|latency|walk`. Only ratios of one run count."""
