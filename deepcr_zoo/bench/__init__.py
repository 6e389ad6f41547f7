"""How good a cosmic-ray mask is: exact counts, the classical baseline, and one schema for what was measured."""
