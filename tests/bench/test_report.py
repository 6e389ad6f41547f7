"""The report page shows all results, and nothing else."""

import html
import re
from html.parser import HTMLParser

from benchmarks.leaderboard import markdown
from deepcr_zoo.bench.report import figures, tables
from deepcr_zoo.bench.report.figures import Picture, Topic
from deepcr_zoo.bench.report.htmlpage import render, write_report
from deepcr_zoo.bench.report.wording import group_name, percent, significant
from deepcr_zoo.bench.results import IN_NOISE, Comparison, GroupRate, Interval
from tests.bench.reports import (
    BEST,
    BIHARMONIC,
    FIELDS,
    FILLER,
    LACOSMIC,
    MEDIAN,
    NETWORK,
    OTHER,
    card_of,
    fill_results,
    mask_results,
    network,
    of_one_field,
)

PICTURE = Picture("one", Topic.WORST, "a caption", "an alternative", b"\x89PNG")
VOID = {"meta", "link", "img"}


class Nesting(HTMLParser):
    """Checks that every tag is closed, in order."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page_of(results, pictures=()):
    cards = {one.name: card_of(one.name) for one in results.methods if one.method.kind == "model"}
    return render(results, cards, pictures)


def text_of(page):
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)))


def cells(table, heading, method):
    (block,) = [block for block in table.blocks if block.heading == heading]
    (row,) = [row for row in block.rows if row[0].text == method]
    return row[1:]


def test_the_page_begins_with_the_verdict_what_it_is_for_and_the_thresholds():
    text = text_of(page_of(mask_results()))
    order = [
        "Synthetic data.",
        "✔ passes all 4 gates, on synthetic data (a rehearsal)",
        "finds cosmic rays in HST ACS/WFC images, F606W",
        "pixel values in electrons",
        "at FPR 0.1 % it finds 77.7 % (75.7 to 79.7) of the cosmic-ray pixels; L.A.Cosmic, best of the grid: 48.8 %",
        "0.5 by default",
        "Thresholds",
        "0.31 → 77.7 %",
        "○ compared only: its gates were not checked",
        "Accuracy",
    ]
    places = [text.index(one) for one in order]
    assert places == sorted(places)


def test_failed_gates_are_at_the_top_with_their_values():
    text = text_of(page_of(mask_results(fails=True)))
    top = text[: text.index("Accuracy")]
    assert "✘ fails 2 of 4 gates" in top
    assert "globular cluster: measured 41.0 % (38.2 to 44.1); bound: lower end above 52.3 %" in top
    assert "false-mask rate of star cores: measured 3.10 %; bound: at most 1 %" in top
    assert "card is valid" not in top


def test_real_data_are_not_called_synthetic():
    text = text_of(page_of(mask_results(kind="real")))
    assert "ynthetic" not in text
    assert "✔ passes all 4 gates 0" not in text


def test_the_page_is_well_formed_with_one_heading_and_holds_every_part():
    results = mask_results()
    page = page_of(results, [PICTURE])
    parser = Nesting()
    parser.feed(page)
    assert parser.open == []
    assert page.count("<h1>") == 1
    for part in (
        "Dilated masks",
        "Structured masks",
        "precision at TPR 95 %",
        "These labels cannot show what real cameras have and the simulation lacks.",
        "honest convention",
        "convention of the paper",
        "Worst stamps",
        "Speed and memory",
        "Gates of",
        "Data, methods and software",
        "Cautions",
        "Not judged",
        "Limits",
        "astroscrappy 1.3.0",
        "objlim",
        "seeds 1002",
        results.command,
        "ab" * 32,
        "cd" * 32,
        "10.3847/1538-4357/ab3fa6",
        "BSD-3-Clause",
        results.excluded[0].reason,
    ):
        assert part in html.unescape(page), part  # fmt: skip


def test_parts_that_were_not_measured_are_left_out():
    results = mask_results()
    first, nothing = results.methods[0], {"dilated": None, "diagnostics": None, "curve": []}
    fields = first.fields.items()
    bare = results.model_copy(
        update={
            "runtime": [],
            "verdicts": [],
            "excluded": [],
            "cautions": [],
            "comparisons": [],
            "methods": [first.model_copy(update={"fields": {name: of.model_copy(update=nothing) for name, of in fields}})],
        }
    )
    page = render(bare, {}, figures.figures(bare))
    for part in ("Speed", "Gates", "Not judged", "Cautions", "Dilated", "Where masks succeed", "Curves", "Limits", "<img"):
        assert part not in page, part
    assert "compared only: its gates were not checked" in page


def test_markup_in_names_and_texts_is_escaped():
    hostile = "<script>alert(1)</script>\"'&"
    results = mask_results(fails=True)
    results.cautions.append(hostile)
    results.methods[2] = results.methods[2].model_copy(update={"name": hostile})
    results.verdicts[0].gates[2] = results.verdicts[0].gates[2].model_copy(update={"measured": hostile})
    page = page_of(results, [Picture("x", Topic.WORST, hostile, hostile, b"")])
    assert "<script" not in page
    assert page.count(html.escape("<script>alert(1)")) > 5
    assert 'alt="&lt;script' in page


def test_missing_figures_are_dashes():
    table = tables.headline(mask_results())
    assert cells(table, "extragalactic", LACOSMIC)[0].text == "-"
    assert "None" not in text_of(page_of(mask_results()))
    assert "None" not in text_of(page_of(fill_results()))
    assert "nan" not in markdown(mask_results())


def test_the_same_results_give_the_same_bytes(tmp_path):
    results = of_one_field(mask_results())
    pages = [write_report(results, {}, tmp_path / name, [PICTURE]) for name in ("one", "two")]
    assert pages[0].read_bytes() == pages[1].read_bytes()
    names = [path.name for path in sorted((tmp_path / "one" / "report").iterdir())]
    kinds = ("roc", "precision", "calibration", "star-cores")
    assert {*(f"{kind}-extragalactic.png" for kind in kinds), "one.png"} <= set(names)
    for name in names:
        assert (tmp_path / "one/report" / name).read_bytes() == (tmp_path / "two/report" / name).read_bytes()
    assert pages[0] == tmp_path / "one" / "report.html"


def test_a_method_is_bold_if_it_is_significantly_better_than_all_others():
    results = mask_results()
    table = tables.headline(results)
    assert [cell.is_bold for cell in cells(table, "all field types", OTHER)][:3] == [True] * 3
    assert not any(cell.is_bold for cell in cells(table, "all field types", NETWORK))
    for number, one in enumerate(results.comparisons):
        if one.against == OTHER and one.field_type == "all":
            doubtful = Interval(low=-0.13, high=0.01, blocks=36)
            results.comparisons[number] = one.model_copy(update={"interval": doubtful})
    table = tables.headline(results)
    assert not any(cell.is_bold for cell in cells(table, "all field types", OTHER))
    assert cells(table, "extragalactic", OTHER)[0].is_bold
    results.comparisons.clear()
    assert not any(cell.is_bold for block in tables.headline(results).blocks for row in block.rows for cell in row)


def test_an_mse_ratio_below_one_is_a_lead():
    results = fill_results()
    assert cells(tables.headline(results), "extragalactic", FILLER)[0].is_bold
    worse = Comparison(
        method=FILLER, against=MEDIAN, field_type="extragalactic", quantity="MSE ratio", value=1.4,
        interval=Interval(low=1.2, high=1.6, blocks=9),
    )  # fmt: skip
    results.comparisons[0] = worse
    table = tables.headline(results)
    assert not cells(table, "extragalactic", FILLER)[0].is_bold
    assert cells(table, "extragalactic", MEDIAN)[1].text == "1.4 (1.2 to 1.6)"


def test_a_lead_in_units_of_the_noise_has_columns_and_makes_no_mse_in_electrons_bold():
    results = fill_results()
    results.comparisons[:] = [one.model_copy(update={"quantity": IN_NOISE}) for one in results.comparisons]
    for method in results.methods:
        for kind, field in method.fields.items():
            errors = field.inpainting.model_copy(update={"mse_in_noise": 3.25})
            method.fields[kind] = field.model_copy(update={"inpainting": errors})
    table = tables.headline(results)
    shown = {cell.text for cell in cells(table, "extragalactic", MEDIAN)}
    assert {"3.25", "0.4 (0.31 to 0.52)"} <= shown
    assert not cells(table, "extragalactic", FILLER)[0].is_bold


def test_a_page_of_inpainting_has_errors_and_fluxes_and_no_rates():
    text = text_of(page_of(fill_results(), figures.figures(fill_results())))
    for part in (
        "fills masked pixels of HST",
        "mean squared error of filled pixels 1,240 (e-)²; biharmonic: 2,660",
        "none: it fills the pixels of a given mask",
        "9,600 stamps, drawn with replacement",
        "Aperture fluxes",
        "before",
    ):
        assert part in text, part  # fmt: skip
    for part in ("ROC", "Dilated"):
        assert part not in text, part


def test_what_a_method_avoids_is_of_the_error_between_biharmonic_interpolation_and_the_scene():
    table = tables.headline(fill_results(scene_mse=10.0))
    place = table.columns.index("avoided") - 1
    shown = {name: cells(table, "extragalactic", name)[place].text for name in (FILLER, MEDIAN, BIHARMONIC)}
    assert shown == {FILLER: "55.0 %", MEDIAN: "-32.5 %", BIHARMONIC: "0.0 %"}  # (410 - 190) / (410 - 10)


def test_failed_gates_come_first():
    table = tables.gates(mask_results(fails=True).verdicts[0])
    assert [row[-1].text for row in table.blocks[0].rows] == ["fails", "fails", "passes", "passes", "not required"]


def test_thresholds_of_many_networks_are_at_the_end():
    results = mask_results()
    results.methods[:0] = [network(f"mask/N{number}@1.0", 5.0 + number / 10) for number in range(3)]
    assert "How good is" in render(results, {}, [])  # the one with a verdict
    results.verdicts.clear()
    text = text_of(render(results, {}, []))
    assert text.index("Accuracy") < text.index("→")
    assert "5 networks on the same pixels" in text


def test_every_method_has_one_colour_and_no_two_are_drawn_alike():
    results = mask_results()
    results.methods.extend(network(f"mask/N{number}@1.0", 5.0) for number in range(8))
    found = figures.styles(results)
    assert len(set(found.values())) == len(found) == 14
    assert found[NETWORK] == figures.styles(mask_results())[NETWORK]


def test_the_leaderboard_is_sorted_and_lists_models_that_are_not_ranked():
    text = markdown(mask_results())
    first = text[text.index("#### All field types") : text.index("#### Extragalactic")]
    places = [first.index(name) for name in (OTHER, NETWORK, BEST, LACOSMIC)]
    assert places == sorted(places)
    row = next(line for line in first.splitlines() if NETWORK in line)
    assert (
        row
        == f"| {NETWORK} | 69.4 % (67.4 to 71.4) | 77.7 % (75.7 to 79.7) | 90.5 % (88.5 to 92.5) | 67.9 % | 0.437 % | 8 |"
    )
    assert text.startswith("**Synthetic data**")
    assert "n = 36 blocks of sky" in text
    assert "- `mask/WFC3-UVIS-2-32@1.0`: it is normalised by the whole frame" in text
    assert not markdown(mask_results(kind="real")).startswith("**")
    of_filling = markdown(fill_results())
    assert of_filling.index(FILLER) < of_filling.index(BIHARMONIC) < of_filling.index(MEDIAN)


def test_a_bar_in_a_name_does_not_end_a_cell_of_the_leaderboard():
    results = mask_results()
    results.methods[0] = results.methods[0].model_copy(update={"name": "a|b"})
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in markdown(results).splitlines() if line.startswith("| ")}
    assert widths == {7, 8}


def test_numbers_and_groups_are_written_for_people():
    assert [significant(value) for value in (12_345, 0.00205, 99.95, -2.1, 1e-7, None)] == [
        "12,300", "0.00205", "100", "-2.1", "1e-07", "-",
    ]  # fmt: skip
    assert percent(0.8321) == "83.2 %"
    names = [group_name(GroupRate(low=low, high=high, pixels=0, rates=[]))
             for low, high in ((None, 100), (100, 1000), (1000, None), (None, None))]  # fmt: skip
    assert names == ["< 100", "100-1k", "≥ 1k", "any"]


def test_every_field_type_has_each_figure_once():
    names = [one.name for one in figures.plots(mask_results())]
    for kind in ("roc", "precision", "brightness", "size", "star-cores", "edges", "calibration"):
        assert [name for name in names if name.startswith(f"{kind}-")] == [f"{kind}-{one}" for one in FIELDS]
    assert len(names) == len(set(names)) == 21
    assert [one.name for one in figures.plots(fill_results())] == [
        "inpainting-mse",
        *(f"photometry-{one}" for one in FIELDS),
    ]


def test_notebooks_show_the_main_table_and_its_first_figure():
    results = mask_results()
    shown = results._repr_html_()
    for block in tables.headline(results).blocks:
        assert block.heading in html.unescape(shown)
        for row in block.rows:
            assert all(cell.text in html.unescape(shown) for cell in row)
    assert shown.count("<img ") == 1
    Nesting().feed(shown.replace("<br>", " "))
