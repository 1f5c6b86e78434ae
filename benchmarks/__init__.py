"""Timed claims, `python -m benchmarks NAME`; --help lists them. Only ratios of one run count."""
