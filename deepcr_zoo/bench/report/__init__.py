"""Report: a benchmark for people, as one HTML page with pictures."""
