"""Timed claims. Only ratios within one run count: `python -m benchmarks drain|latency|walk`."""
