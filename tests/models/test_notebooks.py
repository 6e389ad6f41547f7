"""Notebooks show a model by the most important lines of its card."""

import deepcr_zoo
from deepcr_zoo.models.notebooks import html_table


def test_a_model_shows_what_goes_in_what_comes_out_and_what_to_cite():
    shown = deepcr_zoo.load("CCD-ANY-3-16", engine="torch")._repr_html_()
    for text in (
        "mask/CCD-ANY-3-16@",
        "any unit, gain and bias level",
        "threshold 0.93",
        "cpu, torch",
        "10.3847/1538-4357/ab3fa6",
    ):
        assert text in shown


def test_texts_of_others_are_texts():
    shown = html_table("<b>", [("a & b", "one\ntwo\x1b[31m")], b"png", ["<i>", "c"])
    assert "&lt;b&gt;" in shown
    assert "a &amp; b</th><td>one<br>two" in shown
    assert "\x1b" not in shown
    assert "<i>" not in shown
    assert 'src="data:image/png;base64,cG5n"' in shown
