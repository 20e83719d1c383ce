"""Programs that measure, in pairs within one run: `python -m benchmarks.<name>`."""
