"""Where the figures in the documents come from. `python -m benchmarks` (or `make bench`) measures them all."""
