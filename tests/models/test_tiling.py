import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deepcr_zoo.models.tiling import MIN_WINDOW_PIXELS, plan_windows


@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 900), st.sampled_from([(16, 2), (24, 4)]))
def test_windows_cover_the_frame_once_with_enough_context_on_every_side(height, width, tile, network):
    halo, multiple = network
    covered = np.zeros((height, width), dtype=int)
    padded = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
    sizes = set()
    for spans in plan_windows(height, width, tile, halo, multiple):
        rows, columns = spans
        covered[rows.keep, columns.keep] += 1
        sizes.add(tuple(span.stop - span.start for span in spans))
        for span, end in zip(spans, padded, strict=True):
            assert span.start % multiple == span.stop % multiple == 0
            assert span.start >= 0
            assert span.stop <= end
            assert span.start == 0 or span.keep_start - span.start >= halo
            assert span.stop == end or span.stop - span.keep_stop >= halo
    assert (covered == 1).all()
    assert len(sizes) == 1
    window = sizes.pop()
    assert window == padded or window[0] * window[1] >= MIN_WINDOW_PIXELS
