"""Measurements with a bar. Run by hand, on a quiet machine, after the tests passed: `python -m tests.bench.NAME`."""
