"""Values that no honest server sends."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)


def hostile_json(*keys: str) -> st.SearchStrategy[Any]:
    """Any JSON, the objects of which have these keys, or others."""
    some = st.sampled_from(keys) | st.text(max_size=5)
    return st.recursive(
        VALUES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(some, inner, max_size=6), max_leaves=20
    )
