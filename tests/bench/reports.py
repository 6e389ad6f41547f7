"""Made-up results of benchmarks for every part of a report."""

from __future__ import annotations

import datetime
import math
from itertools import pairwise

import numpy as np

from deepcr_zoo.bench.results import (
    AddedMasks,
    BaselineMethod,
    BenchmarkResults,
    Comparison,
    CurvePoint,
    Data,
    Diagnostics,
    DilatedRates,
    Excluded,
    FieldResult,
    GateResult,
    GroupRate,
    InpaintingErrors,
    Interval,
    MethodResult,
    ModelMethod,
    ModelVerdict,
    Photometry,
    PhotometryRow,
    PixelCounts,
    PrecisionAtTpr,
    RateAtFpr,
    RegionRates,
    ReliabilityBin,
    Runtime,
    StructuredPixels,
)
from deepcr_zoo.zoo.cards import Card, read_card
from deepcr_zoo.zoo.records import OperatingPoint
from deepcr_zoo.zoo.registries import default_registry

FIELDS = ("extragalactic", "globular_cluster", "all")
FPRS = (0.0005, 0.001, 0.005)
POINTS = ["default threshold", "FPR 0.1 % (of the field type)"]
NETWORK, OTHER = "mask/ACS-WFC-F606W-2-4@1.0", "mask/ACS-WFC-F606W-2-32@1.0"
LACOSMIC, BEST = "L.A.Cosmic, settings of the paper", "L.A.Cosmic, best of the grid"
FILLER, MEDIAN, BIHARMONIC = "inpaint/ACS-WFC-F606W-2-32@1.0", "masked median", "biharmonic"
STRUCTURES = StructuredPixels(masked=9000, in_lines=12, in_trails=0, persistent=3)
PIXELS = PixelCounts(exposures=3, pixels=2_408_448, cosmic_rays=23_478, ignored=22_653)


def card_of(reference: str) -> Card:
    """Return the card of a model of the zoo."""
    return read_card(default_registry().resolve(reference))


def tpr(fpr: float, quality: float) -> float:
    """Return the TPR of a typical network: linear in the logits of both rates."""
    return 1 / (1 + math.exp(-(quality + 0.62 * math.log(fpr / (1 - fpr)))))


def threshold(fpr: float) -> float:
    """Return the logit threshold of such a network at this FPR."""
    return -0.8 - 1.45 * math.log10(fpr / 0.001)


def probability(fpr: float) -> float:
    """Return the same threshold as a probability."""
    return 1 / (1 + math.exp(-threshold(fpr)))


def interval(value: float, half: float = 0.02) -> Interval:
    """Return an interval around a value, clipped to 0 and 1."""
    return Interval(low=max(value - half, 0.0), high=min(value + half, 1.0), blocks=36)


def rates(quality: float, shift: float = 0.0) -> list[RateAtFpr]:
    """Return the rates at the fixed FPRs."""
    found = []
    for fpr in FPRS:
        rate = tpr(fpr, quality + shift)
        found.append(RateAtFpr(fpr=fpr, reached_fpr=fpr, tpr=rate, threshold=threshold(fpr), tpr_interval=interval(rate)))
    return found


def curve(quality: float, fprs: np.ndarray) -> list[CurvePoint]:
    """Return curve points with precision, for one cosmic-ray pixel in 100."""
    points = []
    for fpr in map(float, fprs):
        rate = tpr(fpr, quality)
        precision = 0.01 * rate / (0.01 * rate + 0.99 * fpr)
        points.append(CurvePoint(threshold=threshold(fpr), fpr=fpr, tpr=rate, precision=precision))
    return points


def groups(bounds: list[float | None], values: list[float | None]) -> list[GroupRate]:
    """Return groups between bounds; the second working point has a lower threshold."""
    return [
        GroupRate(low=low, high=high, pixels=0 if value is None else 900, rates=[value, value and min(1.0, value * 1.2)])
        for (low, high), value in zip(pairwise(bounds), values, strict=True)
    ]


def diagnostics(quality: float, calibrated: bool) -> Diagnostics:
    """Return all diagnostics; the brightest group has no star."""
    share = tpr(0.001, quality)
    edges = np.linspace(0, 1, 11).tolist()
    return Diagnostics(
        star_cores=groups([None, 1e3, 1e4, 1e5, None], [0.0005 / share, 0.002 / share, 0.006 / share, None]),
        cosmic_ray_brightness=groups([None, 100, 300, 1000, 3000, None], [share * f for f in (0.3, 0.6, 0.8, 0.83, 0.83)]),
        cosmic_ray_size=groups([1, 2, 5, 10, 20, None], [share * f for f in (0.4, 0.6, 0.75, 0.8, 0.82)]),
        regions=[
            RegionRates(
                region=region, cosmic_rays=9000, clean=400_000,
                tprs=[share - 2 * loss, share - loss], fprs=[0.0007, 0.0007 + loss / 90],
            )
            for region, loss in (("outer 8 pixels", 0.03), ("interior", 0.01))
        ],
        calibration=[
            ReliabilityBin(
                low=low, high=high, pixels=0 if low == 0.5 else 400,
                predicted=None if low == 0.5 else (low + high) / 2,
                observed=None if low == 0.5 else ((low + high) / 2) ** (quality / 5),
            )
            for low, high in pairwise(edges)
        ]
        if calibrated
        else [],
    )  # fmt: skip


def field(quality: float, fprs: np.ndarray, calibrated: bool) -> FieldResult:
    """Return the results of one method on one field type."""
    dilated = DilatedRates(paper=rates(quality, 1.2), honest=rates(quality, -0.5))
    return FieldResult(
        at_fpr=rates(quality),
        area=0.999 if calibrated else None,
        average_precision=0.93 if calibrated else None,
        dilated=dilated,
        diagnostics=diagnostics(quality, calibrated),
        structures=STRUCTURES if calibrated else None,
        at_tpr=[PrecisionAtTpr(tpr=0.95, precision=0.8, fpr=0.002, threshold=threshold(0.002))],
        curve=curve(quality, fprs),
    )


def network(reference: str, quality: float) -> MethodResult:
    """Return the results of a mask network."""
    return MethodResult(
        name=reference,
        method=ModelMethod(reference=reference, sha256="ab" * 32, engine="torch", device="cpu"),
        score="logit",
        working_points=POINTS,
        operating_points=[
            OperatingPoint(field_type=name, fpr=fpr, tpr=tpr(fpr, quality - i / 3), threshold=probability(fpr))
            for i, name in enumerate(FIELDS)
            for fpr in (0.0001, *FPRS)
        ],
        fields={name: field(quality - i / 3, np.logspace(-6, -0.5, 120), True) for i, name in enumerate(FIELDS)},
    )  # fmt: skip


def lacosmic(name: str, quality: float) -> MethodResult:
    """Return a sweep of sigclip that does not reach the lowest FPR."""
    fields = {one: field(quality - i / 3, np.logspace(-3.2, -1.2, 7), False) for i, one in enumerate(FIELDS)}
    for one in fields.values():
        one.at_fpr[0] = RateAtFpr(fpr=FPRS[0], reached_fpr=None, tpr=None, threshold=None)
    parameters = {
        "objlim": {"extragalactic": 2.0, "globular_cluster": 3.5},
        "niter": 4,
        "sepmed": False,
        "sigclip": [4.0, 9.0],
    }
    return MethodResult(
        name=name,
        method=BaselineMethod(name="lacosmic", parameters=parameters, packages={"astroscrappy": "1.3.0"}),
        score="sigclip",
        working_points=POINTS[1:],
        fields={key: one.model_copy(update={"diagnostics": _at_one_point(one.diagnostics)}) for key, one in fields.items()},
    )


def _at_one_point(found: Diagnostics) -> Diagnostics:
    content = found.model_dump()
    for group in [*content["star_cores"], *content["cosmic_ray_brightness"], *content["cosmic_ray_size"]]:
        group["rates"] = group["rates"][1:]
    for region in content["regions"]:
        region["tprs"], region["fprs"] = region["tprs"][1:], region["fprs"][1:]
    return Diagnostics.model_validate(content)


def comparisons(method: str, others: list[str], value: float, half: float) -> list[Comparison]:
    """Return comparisons of a method with others at each field type and FPR."""
    return [
        Comparison(
            method=method, against=other, field_type=name, quantity="TPR difference", fpr=fpr, value=value,
            interval=Interval(low=value - half, high=value + half, blocks=36),
        )
        for other in others
        for name in FIELDS
        for fpr in FPRS
    ]  # fmt: skip


def verdict(reference: str, fails: bool) -> ModelVerdict:
    """Return five gates, two of which may fail."""
    word = "fails" if fails else "passes"
    gates = [
        GateResult(gate="card is valid", measured="valid", bound="valid", verdict="passes"),
        GateResult(gate="weights match their hash", measured="abababababab", bound="abababababab", verdict="passes"),
        GateResult(
            gate="TPR at FPR 0.05 % above that of L.A.Cosmic's best", field_type="globular_cluster", verdict=word,
            measured="41.0 % (38.2 to 44.1)" if fails else "83.2 % (81.0 to 85.1)", bound="lower end above 52.3 %",
        ),
        GateResult(
            gate="false-mask rate of star cores", measured="3.10 %" if fails else "0.21 %", bound="at most 1 %", verdict=word
        ),
        GateResult(gate="no regression", measured="no previous version", bound="not worse", verdict="not required"),
    ]  # fmt: skip
    return ModelVerdict(reference=reference, gate_set="trained", gates=gates)


def data(inpainting: AddedMasks | None = None, kind: str = "synthetic") -> Data:
    """Return the pixels of two field types."""
    both = PixelCounts(**{name: 2 * value for name, value in PIXELS.model_dump().items()})
    return Data(
        kind=kind,
        description="test stamps of ACS-WFC-F606W-2-4, simulated; extragalactic: 147 of 3 exposures of 1 visit",
        labels="AstroDrizzle of drizzlepac 3.11.0, driz_cr_snr 5.0 1.5",
        ignored="DQ flags; pixels above 70000 e-",
        manifest_sha256="cd" * 32,
        simulator_version=1 if kind == "synthetic" else None,
        seeds=[1002, 1005] if kind == "synthetic" else [],
        unseen="what real cameras have and the simulation lacks",
        structures={} if inpainting else dict.fromkeys(("extragalactic", "globular_cluster", "all"), STRUCTURES),
        pixels={"extragalactic": PIXELS, "globular_cluster": PIXELS, "all": both},
        inpainting=inpainting,
    )


def runtimes(*names: str) -> list[Runtime]:
    """Return runtimes, each slower than the one before."""
    return [
        Runtime(
            method=name, megapixels=16.8, seconds=[2.1 * n, 2.2 * n, 2.0 * n], megapixels_per_s=8 / n, peak_bytes=7 * 10**8
        )
        for n, name in enumerate(names, 1)
    ]


def mask_results(fails: bool = False, kind: str = "synthetic") -> BenchmarkResults:
    """Return results of a judged and a compared network, and of L.A.Cosmic with two settings."""
    names = [NETWORK, OTHER, LACOSMIC, BEST]
    return BenchmarkResults(
        date=datetime.date(2026, 11, 24),
        command="deepcr-zoo bench ACS-WFC-F606W-2-4 --against lacosmic,ACS-WFC-F606W-2-32",
        machine="a processor, 2 threads",
        software={"deepcr-zoo": "0.1.0", "numpy": "2.4.6", "torch": "2.13.0"},
        data=data(kind=kind),
        methods=[network(NETWORK, 6.2), network(OTHER, 6.9), lacosmic(LACOSMIC, 4.6), lacosmic(BEST, 4.9)],
        comparisons=[
            *comparisons(NETWORK, [LACOSMIC, BEST], 0.3, 0.04),
            *comparisons(OTHER, [LACOSMIC, BEST], 0.4, 0.04),
            *comparisons(NETWORK, [OTHER], -0.06, 0.03),
        ],
        runtime=runtimes(*names[:3]),
        verdicts=[verdict(NETWORK, fails)],
        excluded=[Excluded(reference="mask/WFC3-UVIS-2-32@1.0", reason="it is normalised by the whole frame")],
        cautions=["pixels of one visit per field type: intervals hold for these visits alone"],
    )


def fill_results(scene_mse: float | None = None) -> BenchmarkResults:
    """Return results of an inpainting network and its baselines."""
    mse = {FILLER: 190.0, MEDIAN: 540.0, BIHARMONIC: 410.0}
    biases = {FILLER: -0.4, MEDIAN: -2.1, BIHARMONIC: 0.03}

    def errors(name: str, factor: float) -> FieldResult:
        figures = InpaintingErrors(
            pixels=91_000, mse=factor * mse[name], mae=math.sqrt(mse[name]) / 2, bias=biases[name], scene_mse=scene_mse
        )
        return FieldResult(inpainting=figures)

    def fields(name: str) -> dict[str, FieldResult]:
        return {one: errors(name, factor) for one, factor in zip(FIELDS, (1.0, 12.0, 6.5), strict=True)}

    methods = [
        MethodResult(
            name=FILLER,
            method=ModelMethod(reference=FILLER, sha256="ab" * 32, engine="torch", device="cpu"),
            score=None,
            fields=fields(FILLER),
        ),
        *(
            MethodResult(
                name=name,
                method=BaselineMethod(name=name, parameters={}, packages={"scikit-image": "0.26.0"}),
                score=None,
                fields=fields(name),
            )
            for name in (MEDIAN, BIHARMONIC)
        ),
    ]
    rows = [
        PhotometryRow(
            method=name, field_type=one, kind=kind, sources=210, bias=bias, error=abs(bias), within_5_percent=1 - abs(bias)
        )
        for name, bias in {"before": 0.31, FILLER: -0.004, MEDIAN: -0.03, BIHARMONIC: 0.02}.items()
        for one in FIELDS
        for kind in ("star", "galaxy")
    ]
    return BenchmarkResults(
        date=datetime.date(2026, 11, 24),
        command="deepcr-zoo bench inpaint/ACS-WFC-F606W-2-32",
        machine="a processor, 2 threads",
        software={"deepcr-zoo": "0.1.0", "scikit-image": "0.26.0"},
        data=data(AddedMasks(per_stamp=1, stamps=9600, seed=1)),
        methods=methods,
        comparisons=[
            Comparison(
                method=FILLER, against=other, field_type=one, quantity="MSE ratio", value=0.4,
                interval=Interval(low=0.31, high=0.52, blocks=36),
            )
            for other in (MEDIAN, BIHARMONIC)
            for one in FIELDS
        ],
        photometry=Photometry(description="sources that a cosmic ray hits within an aperture of 4 pixels", rows=rows),
        runtime=runtimes(FILLER, MEDIAN),
        verdicts=[verdict(FILLER, False)],
    )  # fmt: skip


def of_one_field(results: BenchmarkResults) -> BenchmarkResults:
    """Return the same results for extragalactic fields only."""
    name = FIELDS[0]
    data = results.data.model_copy(update={"pixels": {name: results.data.pixels[name]}})
    methods = [one.model_copy(update={"fields": {name: one.fields[name]}}) for one in results.methods]
    return results.model_copy(update={"data": data, "methods": methods})
