"""Group exposures into visits, and give each visit its field type and split by the rules of a recipe."""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from itertools import count as counted
from operator import attrgetter
from pathlib import Path

import numpy as np

from deepcr_zoo import batch
from deepcr_zoo.dataset import footprints
from deepcr_zoo.dataset.expectations import why_no_rehearsal
from deepcr_zoo.dataset.exposures import ExposureFacts
from deepcr_zoo.dataset.labelmethods import LABEL_METHODS
from deepcr_zoo.dataset.nights import slug, with_visits
from deepcr_zoo.dataset.visitnames import VisitName
from deepcr_zoo.errors import DataError, MissingDataError, UsageError
from deepcr_zoo.exposures.fitsfiles import root_name
from deepcr_zoo.files import files_below, walk
from deepcr_zoo.locations import expanded, without_address
from deepcr_zoo.zoo.recipe import ANY_PRODUCT, FieldType, Recipe, Split, SplitBy, TweakReg, VisitRule, visit_code

SAME_PIXELS = 0.2  # repeats are shifted by less than this, in pixels
MOST_SIBLINGS = 12


@dataclass(frozen=True)
class Visit:
    """Exposures of one pointing, in order of time, with the recipe's rule that they match."""

    name: str
    rule: str
    field_type: FieldType
    split: Split
    tweakreg: TweakReg | None
    exposures: tuple[ExposureFacts, ...]

    @property
    def outlines(self) -> list[footprints.Positions]:
        """Convex outlines of all chips of all exposures on the sky."""
        return [outline for exposure in self.exposures for outline in exposure.outlines]


@dataclass(frozen=True)
class FoundVisits:
    """Visits in order of name, what the recipe names and is missing, why files are unused, and cautions."""

    visits: list[Visit]
    missing: list[str]
    unused: dict[str, str]
    cautions: list[str]


def beside(folder: Path | None, places: Iterable[str]) -> list[Path]:
    """Return places that a recipe names; relative ones start at its folder, or at the current one."""
    return [_joined(folder or Path(), expanded(place)) for place in places]


def _joined(folder: Path, place: Path) -> Path:
    """Join them; the name of the folder is no wildcard."""
    path = folder / place
    return path if os.path.lexists(path) else Path(glob.escape(str(folder))) / place


def find_files(places: Iterable[str | os.PathLike[str]], product: str, setting: str = "data.product") -> list[Path]:
    """Return the exposures in folders (at any depth), wildcards and files, each once, in order.

    `product` is the ending of file names in folders, such as ``flc``; `setting` is the recipe's field that names it.
    """
    endings = endings_of(product)
    found: dict[str, Path] = {}
    for place in places:
        paths = _expand(os.fspath(place), endings)
        if not paths:
            unread = unread_files([place], product)
            but = f" but {unread[0]} and others like it: unpack them" if unread else ""
            shown = ".fits" if product == ANY_PRODUCT else endings[0]
            expected = f"a folder, wildcards or a file with exposures (*{shown}, see {setting})"
            raise UsageError(f"{without_address(os.fspath(place))}: expected {expected}, found none{but}")
        if wrong := [path for path in paths if not path.name.lower().endswith(endings)]:
            raise UsageError(f"{wrong[0]}: the recipe takes files that end in {', '.join(endings)} ({setting})")
        found.update({os.path.realpath(path): path for path in paths if os.path.realpath(path) not in found})
    return list(found.values())


def unread_files(places: Iterable[str | os.PathLike[str]], product: str) -> list[str]:
    """Return files in folders that are exposures by their names, packed in ways that are not read, or unfinished."""
    folders = [path for path in (expanded(place) for place in places) if path.is_dir()]
    inside = sorted(str(Path(folder, name)) for top in folders for folder, _, names in walk(top) for name in names)
    fpacked, start = (f"_{product}.fits.fz", f"_{product}.fits.") if product != ANY_PRODUCT else (" ", "")
    return [
        path
        for path in inside
        if path.lower().endswith(fpacked) or (start in Path(path).name.lower() and batch.left_out([path]))
    ]


def endings_of(product: str) -> tuple[str, ...]:
    """Return the endings of the names of a product's files, in lower case."""
    if product == ANY_PRODUCT:
        return batch.FITS_ENDINGS
    return tuple(f"_{product}.fits{packed}" for packed in ("", *batch.PACKED_SUFFIXES))


def _expand(place: str, endings: tuple[str, ...]) -> list[Path]:
    path = expanded(place)
    try:
        if path.is_dir():
            inside = files_below(path)
            return [one for one in inside if one.name.lower().endswith(endings) and not batch.is_product(one.name)]
        if path.is_file() or not glob.has_magic(place):
            return [path] if path.is_file() else []
        return sorted(map(Path, batch.wildcard_files(str(path))))
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be read: {error.strerror}: make it readable") from None
    except UsageError as error:
        raise UsageError(f"{without_address(place)}: {error}") from None


def group(recipe: Recipe, exposures: Sequence[ExposureFacts]) -> FoundVisits:
    """Group exposures into visits, each exposure by the first rule that it matches."""
    unused: dict[str, str] = {}
    matched: defaultdict[tuple[str, int, str, str, str], list[ExposureFacts]] = defaultdict(list)
    for exposure in with_visits(each_once(exposures)):
        rules = recipe.data.visits.items()
        rule_name = next((name for name, rule in rules if _mismatch(recipe, rule, exposure) is None), None)
        if rule_name is None:
            mismatches = filter(None, (_mismatch(recipe, rule, exposure) for _, rule in rules))
            _, nearest = max(mismatches, key=lambda mismatch: mismatch[0])
            unused[str(exposure.path)] = f"no rule under data.visits takes in {nearest}"
        else:
            key = (rule_name, exposure.proposal, exposure.visit, exposure.target, exposure.filter_name)
            matched[key].append(exposure)
    groups = [
        (key[0], tuple(sorted(pointing, key=lambda one: (one.start_mjd, one.name))))
        for key, members in sorted(matched.items())
        for pointing in (
            _repeats(recipe, members) if LABEL_METHODS[recipe.build.labels].same_pixels else _pointings(members)
        )
    ]
    visits = _with_splits(recipe, groups)
    return FoundVisits(visits, _missing(recipe, visits), unused, _cautions(recipe, visits))


def check_apart(visits: Sequence[tuple[str, str, Split, Sequence[footprints.Positions]]]) -> None:
    """Check that no training visit overlaps a test visit on the sky; visits are (name, rule, split, outlines)."""
    for one, other in ((visits[i], visits[j]) for i, j in footprints.neighbours([visit[3] for visit in visits])):
        if one[2] != other[2] and footprints.overlap(one[3], other[3]):
            raise DataError(
                f"visits {one[0]} ({one[2]}) and {other[0]} ({other[2]}) overlap on the sky: what is tested on must not be "
                f"trained on; leave one out with --set data.visits.{other[1]}=null or --set data.visits.{one[1]}=null "
                "(where everything shows one target, declare data.split_by: observation)"
            )


def no_data(recipe: Recipe, archive: str = "get them from the archive with --data mast, or by hand") -> MissingDataError:
    """Return the error for a recipe without any exposures, with the visits it names; `archive` says how to get them."""
    missing = _missing(recipe, [])
    archive = "take them" if recipe.instrument.description is not None else archive
    rehearse = ", or try the whole path on simulated exposures with --rehearse" if why_no_rehearsal(recipe) is None else ""
    return MissingDataError(
        f"{recipe.name}: no exposures: expected exposures (*{endings_of(recipe.data.product)[0]}) of",
        *(f"  {line}" for line in missing),
        f"{archive}, and give their folder with --data DIR (or name it under data.files of the recipe){rehearse}",
    )


def each_once(exposures: Iterable[ExposureFacts]) -> list[ExposureFacts]:
    """Return the exposures without copies; different files of the same exposure are an error.

    Names that are those of files may come again in another folder, as cameras count from 1 each night: they get its name.
    """
    kept: dict[str, ExposureFacts] = {}
    for exposure in exposures:
        first = kept.setdefault(exposure.name, exposure)
        if first.sha256 != exposure.sha256 and first.path.parent != exposure.path.parent and _is_named_by_file(exposure):
            folder = exposure.path.parent.name
            name = f"{slug(folder) or hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]}-{exposure.name}".lower()
            first = kept.setdefault(name, exposure := replace(exposure, name=name))
        if first.sha256 != exposure.sha256:
            raise DataError(
                f"{first.path} and {exposure.path} are different files of the same exposure, {exposure.name}: remove one"
            )
    return list(kept.values())


def _is_named_by_file(exposure: ExposureFacts) -> bool:
    return exposure.observation == root_name(exposure.path).lower() and not exposure.proposal


def _mismatch(recipe: Recipe, rule: VisitRule, exposure: ExposureFacts) -> tuple[int, str] | None:
    """Return how many fields match, and the first that does not; None if the exposure matches the rule."""
    if rule.proposal not in (None, exposure.proposal):
        return 0, f"proposal {exposure.proposal}"
    if rule.visit is not None and visit_code(rule.visit) != exposure.visit:
        return 1, f"visit {exposure.visit} of proposal {exposure.proposal}"
    if rule.observation is not None and not fnmatch.fnmatchcase(exposure.observation, rule.observation.lower()):
        return 2, f"observation {exposure.observation}"
    if rule.target is not None and not fnmatch.fnmatchcase(exposure.target.upper(), rule.target.upper()):
        return 3, f"target {exposure.target!r}"
    if exposure.filter_name not in (rule.filters or recipe.instrument.filters):
        return 4, f"filter {exposure.filter_name or 'none'}"
    return None


def _pointings(exposures: list[ExposureFacts]) -> list[list[ExposureFacts]]:
    """Group exposures whose frames hold each other's centres, directly or through others."""
    frames = [footprints.hull(np.concatenate(exposure.outlines)) for exposure in exposures]
    centres = [footprints.centre(frame) for frame in frames]
    groups = [{index} for index in range(len(exposures))]
    for one, other in combinations(range(len(exposures)), 2):
        if footprints.holds(frames[one], centres[other]) and footprints.holds(frames[other], centres[one]):
            merged = next(found for found in groups if one in found) | next(found for found in groups if other in found)
            groups = [found for found in groups if not found & merged] + [merged]
    return [[exposures[index] for index in sorted(found)] for found in sorted(groups, key=min)]


def _repeats(recipe: Recipe, exposures: list[ExposureFacts]) -> list[list[ExposureFacts]]:
    """Group exposures on the same pixels: of one observation, or with outlines that agree to `SAME_PIXELS`."""
    reach = SAME_PIXELS * recipe.instrument.pixel_scale_arcsec
    groups: list[list[ExposureFacts]] = []
    for exposure in exposures:
        same = next((found for found in groups if _coincide(found[0], exposure, reach)), [])
        if not same:
            groups.append(same)
        same.append(exposure)
    return groups


def _coincide(one: ExposureFacts, other: ExposureFacts, reach_arcsec: float) -> bool:
    if one.observation == other.observation:
        return True
    return len(one.outlines) == len(other.outlines) and all(
        footprints.distance_arcsec(mine[:, None], theirs[None]).min(axis=1).max() < reach_arcsec
        for mine, theirs in zip(one.outlines, other.outlines, strict=True)
    )


def siblings(visit: Visit, found: Sequence[Visit]) -> tuple[ExposureFacts, ...]:
    """Return exposures of other pointings of the same archive visit and filter, nearest in time first.

    They show hot pixels and the usual background. At most `MOST_SIBLINGS`, since every one is read for every pointing.
    """
    first = visit.exposures[0]

    same = attrgetter("proposal", "visit", "filter_name")
    others = [one for other in found if other.name != visit.name for one in other.exposures if same(one) == same(first)]
    return tuple(sorted(others, key=lambda one: (abs(one.start_mjd - first.start_mjd), one.name))[:MOST_SIBLINGS])


def field_of(visit: Visit) -> tuple[str, int, str, str, str]:
    """Return what the exposures of one field and filter share, also where they are visits of their own."""
    first = visit.exposures[0]
    return visit.rule, first.proposal, first.visit, first.target, first.filter_name


def _with_splits(recipe: Recipe, groups: list[tuple[str, tuple[ExposureFacts, ...]]]) -> list[Visit]:
    names = _names([exposures for _, exposures in groups], recipe.data.split_by)
    visits = []
    for (rule_name, exposures), name in zip(groups, names, strict=True):
        rule = recipe.data.visits[rule_name]
        visits.append(Visit(name, rule_name, rule.field_type, rule.split or "train", rule.tweakreg, exposures))
    drawn = _drawn_for_test(recipe, visits)
    return sorted((replace(one, split="test") if one.name in drawn else one for one in visits), key=attrgetter("name"))


def _names(groups: list[tuple[ExposureFacts, ...]], split_by: SplitBy) -> list[str]:
    """Return a name for each visit, with a number where several pointings or targets would have the same one."""
    names: list[str] = []
    for exposures in groups:
        first = exposures[0]
        detail = f"{first.filter_name}-{first.observation}" if split_by == "observation" else first.filter_name
        name = str(VisitName(first.proposal, first.visit, detail))
        count = sum(other == name or other.startswith(f"{name}-p") for other in names)
        numbered = (f"{name}-p{number}" for number in counted(count + 1))
        names.append(next(one for one in numbered if one not in names) if count else name)  # a file may be called m51-p2
    return names


def _drawn_for_test(recipe: Recipe, visits: Sequence[Visit]) -> set[str]:
    """Return the test fraction of the visits whose rule gives no split, drawn by the build's seed.

    Visits that overlap on the sky share a split, also with one whose split is given, unless data are split by observation.
    A mosaic that is most of a rule's visits is not drawn: it would leave nothing for training.
    """
    clusters = [[visit] for visit in visits] if recipe.data.split_by == "observation" else _overlapping(visits)

    def order(cluster: list[Visit]) -> str:
        return hashlib.sha256(f"{recipe.build.seed} {min(visit.name for visit in cluster)}".encode()).hexdigest()

    drawn: set[str] = set()
    for rule_name, rule in recipe.data.visits.items():
        if rule.split is not None:
            continue
        count = sum(visit.rule == rule_name for visit in visits)
        wanted = round(rule.test_fraction * count)
        most = max(wanted, count // 2)
        for cluster in sorted(clusters, key=order):
            members = {visit.name for visit in cluster if visit.rule == rule_name}
            given = {recipe.data.visits[visit.rule].split for visit in cluster} - {None}
            if members and (given == {"test"} or (not given and wanted > 0 and len(members) <= most)):
                drawn |= {visit.name for visit in cluster if recipe.data.visits[visit.rule].split is None}
                wanted -= len(members)
    return drawn


def _overlapping(visits: Sequence[Visit]) -> list[list[Visit]]:
    """Group visits that overlap on the sky, directly or through others."""
    clusters = [{index} for index in range(len(visits))]
    for one, other in footprints.neighbours([visit.outlines for visit in visits]):
        if clusters[one] is not clusters[other] and footprints.overlap(visits[one].outlines, visits[other].outlines):
            clusters[one] |= clusters[other]
            for index in clusters[other]:
                clusters[index] = clusters[one]
    together = {id(cluster): cluster for cluster in clusters}
    return [[visits[index] for index in sorted(cluster)] for cluster in together.values()]


def _missing(recipe: Recipe, visits: Sequence[Visit]) -> list[str]:
    lines = []
    for name, rule in recipe.data.visits.items():
        found = sum(len(visit.exposures) for visit in visits if visit.rule == name)
        wanted = (rule.exposures or recipe.build.quality.min_exposures) if rule.is_one_visit else 1
        if found < wanted:
            expected = f"{rule.exposures} exposures" if rule.exposures else "all exposures"
            count = f"{found} of {wanted} exposures" if found else expected
            lines.append(f"{name} ({rule.split or 'train and test'}): {_described(recipe, rule)}: {count}")
    return lines


def _cautions(recipe: Recipe, visits: Sequence[Visit]) -> list[str]:
    """Return how visits differ from the recipe: short exposures may be among the files by mistake."""
    lines = []
    if without := [visit.name for visit in visits if not all(one.has_coordinates for one in visit.exposures)]:
        lines.append(
            f"{', '.join(without)}: headers have no WCS, so that exposures of one target (or folder) count as one place on "
            "the sky; training and test do not share it"
        )
    for visit in visits:
        rule = recipe.data.visits[visit.rule]
        times = [exposure.exposure_time_s for exposure in visit.exposures]
        if rule.exposures is not None and len(times) > rule.exposures:
            lines.append(
                f"{visit.name}: has {len(times)} exposures, {visit.rule} of the recipe has {rule.exposures}; all are used"
            )
        mean = sum(times) / len(times)
        if rule.exposure_time_s is not None and not 0.8 < mean / rule.exposure_time_s < 1.25:
            found = f"exposures of {min(times):g} to {max(times):g} s, {mean:.0f} s in the mean"
            lines.append(f"{visit.name}: {found}, {visit.rule} of the recipe has {rule.exposure_time_s:g} s")
    return lines


def _described(recipe: Recipe, rule: VisitRule) -> str:
    visit = None if rule.visit is None else visit_code(rule.visit)
    fields = {"proposal": rule.proposal, "visit": visit, "observation": rule.observation, "target": rule.target}
    parts = [f"{name} {content}" for name, content in fields.items() if content is not None]
    return ", ".join(filter(None, [*parts, " or ".join(rule.filters or recipe.instrument.filters)]))
