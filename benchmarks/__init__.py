"""Benchmarks: every figure is a ratio to a floor measured in the same run.

`python -m benchmarks` (`make bench`) runs all of them; docs/performance.md says what they mean.
"""
