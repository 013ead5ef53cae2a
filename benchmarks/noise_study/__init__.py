"""The parts of `benchmarks/noise.py`: tables with wrong labels, methods, a record, a report."""
