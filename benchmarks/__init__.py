"""Benchmarks: what it costs, beside what the same machine does without us, in the same run."""
