"""Measures: counts, rates, curves and intervals."""
