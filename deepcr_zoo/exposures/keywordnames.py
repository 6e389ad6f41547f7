"""Keywords by which observatories state the facts of an exposure, for descriptions of cameras that are proposed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """Keywords of one fact, the most reliable first, and where such names are in use."""

    names: tuple[str, ...]
    source: str


NOAO = "NOAO and IRAF ccdproc conventions for CCD headers"
ESO = "ESO Data Interface Control Document"

GAIN = Names(
    ("EGAIN", "ESO DET OUT1 CONAD", "GAIN", "CONAD", "CCDGAIN", "ATODGAIN", "GAINA", "GTGAIN11", "EPERADU", "GAIN1"),
    f"e- per count: {NOAO} (GAIN); SBIG FITS extensions (EGAIN); {ESO} (CONAD, its GAIN is the inverse)",
)
READ_NOISE = Names(
    ("RDNOISE", "READNOIS", "ENOISE", "ESO DET OUT1 RON", "RON", "READNSE", "RDNOISEA", "RO_NOISE", "GTRON11", "RNOISE"),
    f"e-: {NOAO} (RDNOISE); Isaac Newton Group (READNOIS); {ESO} (RON)",
)
EXPOSURE_TIME = Names(
    ("EXPTIME", "EXPOSURE", "EXPOSED", "ITIME", "ELAPTIME", "TTIME", "EXP_TIME", "INTTIME", "TEXPTIME"),
    "s: FITS keyword dictionary (EXPTIME, EXPOSURE); Keck headers (ITIME, ELAPTIME, TTIME)",
)
FILTER = Names(
    ("FILTER", "FILTNAM", "FILTERID", "INSFILTE", "FILTNAME", "WFFBAND", "BLUFILT", "REDFILT", "FILTERS", "ACAMFILT"),
    f"{NOAO} (FILTER); Keck LRIS (BLUFILT, REDFILT); Isaac Newton Group (ACAMFILT, WFFBAND)",
)
FILTER_WHEELS = Names(
    ("FILTER{}", "FILTNAM{}", "FILT{}", "ESO INS FILT{} NAME", "ACAMWH{}"),
    f"a keyword for each filter wheel, numbered from 1: {NOAO}; {ESO}",
)
TARGET = Names(
    ("TARGNAME", "TARGET", "OBJECT", "OBJNAME", "ESO OBS TARG NAME", "TITLE"),
    "FITS standard 4.0 (OBJECT); headers of HST, Keck and Gemini (TARGNAME), and of ESO",
)
PROPOSAL = Names(("PROPOSID", "PROPID", "PROGID", "PROPOSAL"), "headers of HST and NOIRLab, where they are numbers")
VISIT = Names(("LINENUM", "VISIT"), "headers of HST and of survey telescopes")
TIME = Names(
    ("MJD-OBS", "MJD-BEG", "MJD", "DATE-BEG", "DATE-OBS", "TIME-OBS", "UT", "UTSTART", "UTC", "UTC-OBS", "UT-OBS", "JD"),
    "FITS standard 4.0, section 9 (MJD-OBS, DATE-OBS, DATE-BEG); clocks in a keyword of their own in older headers",
)
SATURATION = Names(
    ("SATURATE", "SATLEVEL", "SATURAT", "CCDSATUR", "MAXLIN", "SATURATA"),
    "headers of LCO, Isaac Newton Group, SDSS and DECam, in the unit of the file",
)
BINNING = (
    Names(("CCDSUM",), NOAO),
    Names(("XBINNING", "YBINNING"), "SBIG FITS extensions, MaxIm DL"),
    Names(("CCDXBIN", "CCDYBIN"), "Isaac Newton Group, Liverpool Telescope"),
    Names(("ESO DET WIN1 BINX", "ESO DET WIN1 BINY"), ESO),
    Names(("BINAXIS1", "BINAXIS2"), "headers of HST"),
    Names(("CCDBIN1", "CCDBIN2"), "NOIRLab"),
    Names(("BINX", "BINY"), "headers of several cameras"),
    Names(("BINNING",), "headers of Keck"),
)
PIXEL_SIZE = Names(
    ("PIXSIZE1", "CCDXPIXE", "XPIXELSZ", "XPIXSZ", "ESO DET CHIP1 PSZX", "CCDPSIZE"),
    f"{NOAO} (PIXSIZE1); SBIG FITS extensions (XPIXSZ, which includes binning); LCO (CCDXPIXE, m); {ESO} (PSZX)",
)
BINNED_PIXEL_SIZE = ("XPIXSZ",)
PIXEL_SCALE = Names(
    ("PIXSCALE", "PIXSCAL1", "SECPIX", "SECPIX1", "CCDSCALE", "ESO INS PIXSCALE"),
    "arcsec: headers of LCO, NOIRLab (PIXSCALE, PIXSCAL1), Liverpool Telescope (CCDSCALE) and ESO",
)
IDENTITY = Names(
    ("TELESCOP", "INSTRUME", "DETECTOR"),
    "FITS standard 4.0, section 4.4.2 (TELESCOP, INSTRUME); headers of HST and many others (DETECTOR)",
)
OTHER_IDENTITY = ("CAMERA", "DETNAM", "CCDNAME", "OBSERVAT", "VERSION", "CAMERAID", "PROGRAM", "CREATOR", "SWCREATE")
"""Keywords that may name a camera whose header has neither TELESCOP nor INSTRUME."""

AMPLIFIER_SUFFIXES = (("A", "B", "C", "D"), ("11", "12", "21", "22"), ("1", "2", "3", "4"))
AMPLIFIER_STEMS = (
    # image, bias, gain
    ("TRIMSEC", "BIASSEC", "GAIN"),
    ("DATASEC", "BIASSEC", "GAIN"),
    ("TSEC", "BSEC", "GTGAIN"),
    ("DSEC", "BSEC", "GTGAIN"),
)
"""A section for each amplifier, as in headers of DECam (A, B) and NOAO ARCON (11 to 22)."""

NO_FILTER = (
    "CLEAR*",
    "OPEN*",
    "FREE*",
    "NONE*",
    "OUT",
    "AIR*",
    "EMPTY*",
    "NOTPRESENT*",
    "N/A",
    "HOLE*",
    "NOFILT*",
    "AG-CLEAR*",
)
"""Patterns of positions of a filter wheel without a filter, as in the headers of ESO, LCO, Lick and Isaac Newton Group."""

NO_VALUE = ("", "UNKNOWN", "UNSPECIFIED", "N/A", "NONE", "NOTPRESENT", "-999999999")
"""Values that stand for none."""
