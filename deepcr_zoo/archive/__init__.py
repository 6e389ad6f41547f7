"""Exposures from the archive (MAST): what is there of a recipe's visits, and downloads that can be repeated."""
