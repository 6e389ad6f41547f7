"""Overview of a training set: a sheet of stamps, histograms and a table (extra ``plot``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from deepcr_zoo.dataset.reading import Dataset, Stamp
from deepcr_zoo.dataset.store import REPORT, REPORT_FILES, STAMP_SPLITS, Manifest, VisitRecord
from deepcr_zoo.exposures.pictures import outline, plainly_drawn, png, require_matplotlib
from deepcr_zoo.files import refuse_links, write_together
from deepcr_zoo.zoo.recipe import FieldType
from deepcr_zoo.zoo.rendering import markdown_table

SHOWN_SPLITS = STAMP_SPLITS[:3]
STAMPS_SHOWN = 3  # stamps of each field type and split
STAMPS_COUNTED = 100  # among which those with the most masked pixels are shown: a label is judged where there is one
DPI = 110

Row = tuple[str, ...]

HEADINGS: Row = (
    "visit", "field type", "split", "exposure", "time (s)", "sky (e-)", "sky from", "background ratio", "masked (%)",
    "rays / cm2 / s", "star excess", "ignored (%)", "stamps",
)  # fmt: skip


ALIGNMENT_HEADINGS: Row = (
    "visit", "exposure", "matched stars", "residual (pixels)", "FWHM (pixels)", "transparency", "ignored: unseen",
    "ignored: cores", "ignored: trails, moving",
)  # fmt: skip

DEFECTS = """## Defects of the detector

Pixels and columns that stand out at the same place in most exposures of a visit. Pixels are ignored: a benchmark on these
labels does not judge them. Columns of dithered exposures are taught and judged as clean; those of others are ignored,
and a network may take them for cosmic rays: flag them before `clean`."""
DEFECT_HEADINGS: Row = ("visit", "chip", "pixels", "columns", "columns, counted from 1")


def write_report(dataset: Dataset, folder: Path | None = None) -> list[Path]:
    """Write ``stamps.png``, ``histograms.png`` and ``report.md``, by default to ``report`` in the training set's folder."""
    require_matplotlib()
    target = folder or dataset.folder / REPORT
    refuse_links(target, target.parent)
    made = (_sheet(dataset), _histograms(dataset.manifest), text(dataset.manifest).encode(errors="backslashreplace"))
    contents = {target / name: data for name, data in zip(REPORT_FILES, made, strict=True)}
    write_together(contents)
    return list(contents)


def sentence(record: VisitRecord) -> str:
    """Return the outcome of a visit in one line."""
    left_out = [f"{one.what} is left out: {one.reason}" for one in record.rejected]
    if record.rejection is not None:
        return "; ".join([record.rejection, *left_out])
    fraction = np.mean([one.cosmic_ray_fraction for one in record.exposures])
    rate = np.mean([one.cosmic_rays_per_cm2_s for one in record.exposures])
    count = sum(one.count for one in record.exposures)
    content = f"{len(record.exposures)} exposures, {count} stamps, {fraction:.2%} of the pixels masked"
    return "; ".join([f"{content}, {rate:.2f} cosmic rays per cm2 and s", *left_out])


def rows(manifest: Manifest) -> list[Row]:
    """Return the table of exposures, under `HEADINGS`."""
    return [
        (
            visit.record.name,
            visit.record.field_type,
            visit.split,
            one.name,
            f"{one.exposure_time_s:g}",
            f"{one.sky_electron:.1f}",
            one.sky_source,
            "-" if one.background_ratio is None else f"{one.background_ratio:.2f}",
            f"{100 * one.cosmic_ray_fraction:.2f}",
            f"{one.cosmic_rays_per_cm2_s:.2f}",
            "-" if one.star_excess is None else f"{one.star_excess:.1f}",
            f"{100 * one.ignored_fraction:.1f}",
            ", ".join(f"{len(indices)} {split}" for split, indices in stamps.items()),
        )
        for visit in manifest.visits
        for one, stamps in zip(visit.record.exposures, visit.stamps, strict=True)
    ]


def alignment_rows(manifest: Manifest) -> list[Row]:
    """Return the table of exposures that were aligned by stars, under `ALIGNMENT_HEADINGS`."""

    def cell(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    return [
        (
            visit.record.name,
            one.name,
            str(one.dither.matched_stars) if one.dither.matched_stars else "none: by WCS",
            cell(one.fit_rms_pixels),
            cell(one.dither.fwhm_pixels),
            cell(one.dither.transparency),
            *map(str, (one.dither.unseen_pixels, one.dither.core_pixels, one.dither.moving_pixels)),
        )
        for visit in manifest.visits
        for one in visit.record.exposures
        if one.dither is not None
    ]


def defect_rows(manifest: Manifest) -> list[Row]:
    """Return the table of detector defects, under `DEFECT_HEADINGS`."""
    return [
        (visit.record.name, str(one.chip), str(one.pixels), str(len(one.columns)), in_runs(one.columns) or "-")
        for visit in manifest.visits
        for one in visit.record.defects
    ]


def in_runs(numbers: Sequence[int]) -> str:
    """Return ascending numbers as people write them: 3, 7-9."""
    runs = np.split(np.asarray(numbers, int), np.flatnonzero(np.diff(numbers) > 1) + 1) if numbers else []
    return ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def text(manifest: Manifest) -> str:
    """Return the content of a training set, and what was left out, as Markdown."""
    source = "simulated exposures" if manifest.is_synthetic else "exposures"
    source += " (rehearsal)" if manifest.rehearsal else ""
    counts = [
        (field_type, *(str(of_type[split]) for split in STAMP_SPLITS)) for field_type, of_type in manifest.counts.items()
    ]
    parts = [
        f"# {manifest.name}: {source}, stamps of {manifest.stamp_size} pixels",
        markdown_table(("stamps", *STAMP_SPLITS), counts),
        markdown_table(HEADINGS, rows(manifest)),
    ]
    if alignments := alignment_rows(manifest):
        parts += ["## Alignment", markdown_table(ALIGNMENT_HEADINGS, alignments)]
    if defects := defect_rows(manifest):
        parts += [DEFECTS, markdown_table(DEFECT_HEADINGS, defects)]
    left_out = [(visit.record.name, one.what, one.reason) for visit in manifest.visits for one in visit.record.rejected]
    left_out += [("", one.what, one.reason) for one in manifest.rejected]
    parts += ["## Not used", markdown_table(("visit", "what", "why"), left_out)] if left_out else []
    parts += ["## Missing", _bullets(manifest.missing)] if manifest.missing else []
    parts += ["## Cautions", _bullets(manifest.cautions)] if manifest.cautions else []
    return "\n\n".join(parts) + "\n"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {' '.join(line.split())}" for line in lines)


@plainly_drawn
def _sheet(dataset: Dataset) -> bytes:
    """Draw stamps with the outlines of their masks: a row per field type, some columns per split."""
    from astropy.visualization import ZScaleInterval
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    field_types = list(dataset.manifest.counts)
    columns = len(SHOWN_SPLITS) * STAMPS_SHOWN
    figure = Figure(figsize=(2.2 * columns, 2.4 * len(field_types) + 0.8), layout="constrained")
    figure.suptitle(f"{dataset.manifest.name}: stamps of {dataset.manifest.stamp_size} pixels")
    for line, field_type in zip(figure.subplots(len(field_types), columns, squeeze=False), field_types, strict=True):
        for axes, (split, stamp) in zip(line, _examples(dataset, field_type), strict=True):
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"{field_type.replace('_', ' ')}\n{split}", fontsize="small")
            if stamp is None:
                axes.set_axis_off()
                continue
            low, high = ZScaleInterval(contrast=0.15).get_limits(stamp.image)
            axes.imshow(stamp.image, origin="lower", cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            for mask, colour in ((stamp.ignore, "tab:blue"), (stamp.cosmic_rays, "tab:red")):
                if mask.any():
                    outline(axes, mask, colour)
    labels = {"cosmic ray": "tab:red", "ignored": "tab:blue"}
    handles = [Line2D([], [], color=colour, label=label) for label, colour in labels.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return png(figure, DPI)


def _examples(dataset: Dataset, field_type: FieldType) -> Iterator[tuple[str, Stamp | None]]:
    """Yield the stamps with the most masked pixels, of some that are spread evenly over each split; None if too few."""
    for split in SHOWN_SPLITS:
        stamps = dataset.stamps(split, field_type)
        spread = np.linspace(0, len(stamps) - 1, min(STAMPS_COUNTED, len(stamps))).round().astype(int).tolist()
        chosen = sorted(spread, key=lambda number: -int(stamps[number].cosmic_rays.sum()))[:STAMPS_SHOWN]
        for place in range(STAMPS_SHOWN):
            yield split, stamps[chosen[place]] if place < len(chosen) else None


@plainly_drawn
def _histograms(manifest: Manifest) -> bytes:
    from matplotlib.figure import Figure

    exposures = [(visit.record.field_type, one) for visit in manifest.visits for one in visit.record.exposures]
    quantities = {
        "sky level (e-)": [one.sky_electron for _, one in exposures],
        "masked pixels (%)": [100 * one.cosmic_ray_fraction for _, one in exposures],
        "cosmic rays per cm2 and s": [one.cosmic_rays_per_cm2_s for _, one in exposures],
        "ignored pixels (%)": [100 * one.ignored_fraction for _, one in exposures],
    }
    figure = Figure(figsize=(4 * len(quantities), 3.2), layout="constrained")
    figure.suptitle(f"{manifest.name}: exposures")
    for axes, (label, values) in zip(figure.subplots(1, len(quantities)), quantities.items(), strict=True):
        parts = [
            [value for value, (kind, _) in zip(values, exposures, strict=True) if kind == one] for one in manifest.counts
        ]
        axes.hist(parts, bins=np.histogram_bin_edges(values, bins=20), stacked=True, label=list(manifest.counts))
        axes.set(xlabel=label, ylabel="exposures")
    axes.legend(fontsize="small")
    return png(figure, DPI)
