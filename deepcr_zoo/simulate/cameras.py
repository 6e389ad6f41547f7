"""Cameras that can be simulated: positions and distortion of their chips, keywords of their headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deepcr_zoo.errors import UsageError
from deepcr_zoo.zoo.recipe import DetectorBlock, InstrumentBlock, SimulatedInstrument

Matrix = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class ChipOptics:
    """The mapping of a chip's pixels to the sky (SIP, Shupe et al. 2005)."""

    cd: Matrix  # degrees per pixel: rows are east and north, columns are x and y, at some roll
    a: Mapping[tuple[int, int], float]  # SIP coefficients by their powers of x and y, like `b`
    b: Mapping[tuple[int, int], float]


@dataclass(frozen=True)
class Camera:
    """A camera of HST."""

    letter: str  # first letter of its file names
    first_proposal: int  # PROPOSID of its simulated visits starts here; real ones are below 20,000
    full_frame: str  # APERTURE, like cutout
    cutout: str
    nominal_scale_arcsec: float  # IDCSCALE
    chips: Mapping[int, ChipOptics]  # by CCDCHIP: 1 lies above 2
    filter_keywords: Mapping[str, str]  # with {filter} for the name of the filter
    keywords: Mapping[str, str | int | float]  # of the primary header, the same for each exposure


# from the header of a real exposure, j94f05bgq_flt.fits (in astropy's tests of its WCS)
_ACS_WFC1 = ChipOptics(
    cd=((1.28168672384053e-05, 5.8558592401986e-06), (4.80078206009106e-06, -1.2175120783707e-05)),
    a={
        (0, 2): 2.261941311576225e-06, (1, 1): -7.5302899956868e-06, (2, 0): 8.518868718265025e-06,
        (0, 3): 6.51050888731965e-11, (1, 2): -5.253920848284526e-10, (2, 1): -1.0714005144979e-10,
        (3, 0): -4.693635321207041e-10, (0, 4): 1.3519145063782e-13, (1, 3): -1.4269338934146e-14,
        (2, 2): 9.70199525902786e-14, (3, 1): 3.800597894287968e-14, (4, 0): 1.836278740012908e-14,
    },
    b={
        (0, 2): -9.798580190744584e-06, (1, 1): 6.42569978230108e-06, (2, 0): -2.965892204849563e-06,
        (0, 3): -4.14215027648948e-10, (1, 2): -3.0354268445463e-11, (2, 1): -4.4034920544682e-10,
        (3, 0): 9.00334226345491e-11, (0, 4): -1.5248976030166e-13, (1, 3): 2.75911359120267e-14,
        (2, 2): -1.0403608182763e-13, (3, 1): -3.8363936250847e-14, (4, 0): -1.6913942401142e-14,
    },
)  # fmt: skip
_ACS_WFC2 = ChipOptics(
    cd=((1.29056256197165e-05, 5.95309123310338e-06), (5.0220581265601e-06, -1.2644774105568e-05)),
    a={
        (0, 2): 2.16615952976212e-06, (1, 1): -5.1974576466834e-06, (2, 0): 8.551277582556502e-06,
        (0, 3): 1.08193519820265e-11, (1, 2): -5.234870743692412e-10, (2, 1): -3.9771547747287e-11,
        (3, 0): -4.7304448292227e-10, (0, 4): 1.49356171166049e-14, (1, 3): -2.456997553774615e-14,
        (2, 2): 3.46791267104378e-14, (3, 1): 1.971022971660309e-15, (4, 0): 2.37430106240231e-14,
    },
    b={
        (0, 2): -7.2168814507744e-06, (1, 1): 6.18443235774478e-06, (2, 0): -1.7464918770586e-06,
        (0, 3): -4.1754720492749e-10, (1, 2): -6.169265268681388e-11, (2, 1): -5.085716167386211e-10,
        (3, 0): 8.56763542781631e-11, (0, 4): -9.9570490655478e-15, (1, 3): 1.21743011568848e-14,
        (2, 2): -3.6614325928657e-14, (3, 1): -3.7795068054874e-15, (4, 0): -1.7687653826004e-14,
    },
)  # fmt: skip

# a rhombus of 86.1 degrees (WFC3 Instrument Handbook): only the linear part of its distortion
_UVIS = ChipOptics(cd=((-1.1e-05, 7.484e-07), (0.0, 1.09745e-05)), a={}, b={})

_COMMON: dict[str, str | int | float] = {
    "TELESCOP": "HST",
    "EQUINOX": 2000.0,
    "OBSTYPE": "IMAGING",
    "OBSMODE": "ACCUM",
    "EXPFLAG": "NORMAL",
    "CCDAMP": "ABCD",
    "CCDOFSTA": 3,
    "FLASHCUR": "OFF",
    "FLASHDUR": 0.0,
    **dict.fromkeys(("BLEVCORR", "DARKCORR", "FLATCORR", "PCTECORR"), "COMPLETE"),
    **dict.fromkeys(("CRCORR", "EXPSCORR", "DRIZCORR"), "OMIT"),
    "POSTARG1": 0.0,
    "POSTARG2": 0.0,
    **dict.fromkeys(("IDCTAB", "NPOLFILE", "D2IMFILE", "DGEOFILE", "MDRIZTAB", "PFLTFILE"), "N/A"),
}

_CAMERAS = {
    ("ACS", "WFC"): Camera(
        letter="j",
        first_proposal=90_000,
        full_frame="WFC",
        cutout="WFC1-2K",
        nominal_scale_arcsec=0.05,
        chips={1: _ACS_WFC1, 2: _ACS_WFC2},
        filter_keywords={"FILTER1": "{filter}", "FILTER2": "CLEAR2L"},
        keywords={**_COMMON, "INSTRUME": "ACS", "PRIMESI": "ACS", "DETECTOR": "WFC"},
    ),
    ("WFC3", "UVIS"): Camera(
        letter="i",
        first_proposal=95_000,
        full_frame="UVIS",
        cutout="UVIS1-2K4-SUB",
        nominal_scale_arcsec=0.0396,
        chips={1: _UVIS, 2: _UVIS},
        filter_keywords={"FILTER": "{filter}"},
        keywords={**_COMMON, "INSTRUME": "WFC3", "PRIMESI": "WFC3", "DETECTOR": "UVIS"},
    ),
}


def is_of_hst(instrument: DetectorBlock) -> bool:
    """True if this camera is one of those whose files AstroDrizzle reads."""
    return instrument.telescope == "HST" and (instrument.instrument, instrument.detector) in _CAMERAS


def camera(instrument: DetectorBlock) -> Camera:
    """Return the camera of an instrument block, or raise `UsageError` if it cannot be simulated."""
    found = _CAMERAS.get((instrument.instrument, instrument.detector)) if instrument.telescope == "HST" else None
    if found is None:
        known = ", ".join("HST " + "/".join(names) for names in _CAMERAS)
        raise UsageError(
            f"exposures of {instrument.telescope} {instrument.instrument}/{instrument.detector} cannot be simulated: "
            f"expected one of {known}, whose files AstroDrizzle reads"
        )
    return found


def simulated(block: InstrumentBlock) -> SimulatedInstrument:
    """Return the instrument of a recipe with all the fields that the simulator needs, or raise `UsageError`."""
    camera(block)
    if block.simulation is not None:
        raise UsageError(
            f"instrument.simulation: {block.instrument}/{block.detector} is simulated by the other fields of its block: "
            "remove it"
        )
    given = block.model_dump(exclude_none=True)
    if missing := [
        name for name, one in SimulatedInstrument.model_fields.items() if one.is_required() and name not in given
    ]:
        raise UsageError(f"instrument: the simulator needs {', '.join(missing)} too: add what is missing to the recipe")
    return SimulatedInstrument.model_validate(given)
