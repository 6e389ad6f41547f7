"""Visits of space cameras that never took place, with everything known about them: cosmic rays, scene and noise."""

VERSION = 1
"""Raised whenever the pixels of a simulated exposure change: a network and its judge must have seen the same sky."""
