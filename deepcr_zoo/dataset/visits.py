"""Files become visits: exposures of one pointing, each visit with its field type and split by the rules of a recipe."""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from deepcr_zoo.dataset import footprints
from deepcr_zoo.dataset.expectations import why_no_rehearsal
from deepcr_zoo.dataset.exposures import ExposureFacts
from deepcr_zoo.dataset.labelmethods import LABEL_METHODS
from deepcr_zoo.dataset.visitnames import VisitName
from deepcr_zoo.errors import DataError, MissingDataError, UsageError
from deepcr_zoo.zoo.recipe import FieldType, Recipe, Split, SplitBy, TweakReg, VisitRule, visit_code

PACKED = ("", ".gz")

SAME_PIXELS = 0.2
"""Repeats are off each other by less than this, in pixels."""

MOST_SIBLINGS = 12


@dataclass(frozen=True)
class Visit:
    """Exposures of one pointing, and what they are for.

    Attributes
    ----------
    name : str
        Proposal, visit and filter, and more where that is not unique.
    rule : str
        Name of the recipe's rule that took it in.
    field_type : FieldType
    split : Split
    tweakreg : TweakReg or None
    exposures : tuple of ExposureFacts
        In order of time.
    """

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
    """What the files of a user hold of a recipe's data.

    Attributes
    ----------
    visits : list of Visit
        In order of name.
    missing : list of str
        Visits and exposures that the recipe asks for and that are not there.
    unused : dict of str
        Files that no rule takes in, and why.
    cautions : list of str
        Visits that are not quite as the recipe describes them.
    """

    visits: list[Visit]
    missing: list[str] = field(default_factory=list)
    unused: dict[str, str] = field(default_factory=dict)
    cautions: list[str] = field(default_factory=list)


def beside(folder: Path | None, places: Iterable[str]) -> list[Path]:
    """Places that a recipe names; relative ones start at its folder, or at the current one."""
    return [(folder or Path()) / Path(place).expanduser() for place in places]


def find_files(places: Iterable[str | os.PathLike[str]], product: str, setting: str = "data.product") -> list[Path]:
    """The exposures that folders (at any depth), wildcards and names of files stand for, each once, in order.

    Parameters
    ----------
    places : iterable of path-like
    product : str
        End of the names of the files that are taken from folders, ``flc`` say.
    setting : str
        Of the recipe, which names the product.

    Raises
    ------
    UsageError
        If one of them stands for nothing, or is a file of another product.
    """
    endings = tuple(f"_{product}.fits{packed}" for packed in PACKED)
    found: dict[str, Path] = {}
    for place in places:
        paths = _expand(os.fspath(place), endings)
        if not paths:
            raise UsageError(
                f"{place}: expected a folder, wildcards or a file with exposures (*{endings[0]}, see {setting}), found none"
            )
        if wrong := [path for path in paths if not path.name.lower().endswith(endings)]:
            raise UsageError(f"{wrong[0]}: the recipe takes files that end in {endings[0]} ({setting})")
        found.update({os.path.realpath(path): path for path in paths if os.path.realpath(path) not in found})
    return list(found.values())


def group(recipe: Recipe, exposures: Sequence[ExposureFacts]) -> FoundVisits:
    """Group exposures into visits and give each its field type and split, by the first rule that matches.

    Raises
    ------
    DataError
        If two different files are of the same exposure.
    """
    unused: dict[str, str] = {}
    taken: defaultdict[tuple[str, int, str, str, str], list[ExposureFacts]] = defaultdict(list)
    for exposure in each_once(exposures):
        rule = _first_rule(recipe, exposure)
        if rule is None:
            unused[str(exposure.path)] = _why_unused(recipe, exposure)
        else:
            taken[rule, exposure.proposal, exposure.visit, exposure.target, exposure.filter_name].append(exposure)
    groups = [
        (key[0], tuple(sorted(pointing, key=lambda one: (one.start_mjd, one.name))))
        for key, members in sorted(taken.items())
        for pointing in (
            _repeats(recipe, members) if LABEL_METHODS[recipe.build.labels].same_pixels else _pointings(members)
        )
    ]
    visits = _with_splits(recipe, groups)
    return FoundVisits(visits, _missing(recipe, visits), unused, _cautions(recipe, visits))


def check_apart(visits: Sequence[tuple[str, str, Split, Sequence[footprints.Positions]]]) -> None:
    """Make sure that no sky is in both training and test, headers being off by as much as they may be.

    Parameters
    ----------
    visits : sequence of (name, rule, split, outlines)

    Raises
    ------
    DataError
        Naming two visits that overlap, and how to leave one out.
    """
    for one, other in ((visits[i], visits[j]) for i, j in footprints.neighbours([visit[3] for visit in visits])):
        if one[2] != other[2] and footprints.overlap(one[3], other[3]):
            raise DataError(
                f"visits {one[0]} ({one[2]}) and {other[0]} ({other[2]}) overlap on the sky: what is tested on must not be "
                f"trained on; leave one out with --set data.visits.{other[1]}=null or --set data.visits.{one[1]}=null "
                "(where everything shows one target, declare data.split_by: observation)"
            )


def no_data(recipe: Recipe, archive: str = "get them from the archive with --data mast, or by hand") -> MissingDataError:
    """The error for a recipe of which no exposure is there, and what to do; the archive may have been asked already."""
    missing = _missing(recipe, [])
    rehearse = ", or try the whole path on simulated exposures with --rehearse" if why_no_rehearsal(recipe) is None else ""
    return MissingDataError(
        f"{recipe.name}: no exposures: expected exposures (*_{recipe.data.product}.fits) of\n"
        + "\n".join(f"  {line}" for line in missing)
        + f"\n{archive}, and give their folder with --data DIR (or name it under "
        f"data.files of the recipe){rehearse}"
    )


def _expand(place: str, endings: tuple[str, ...]) -> list[Path]:
    path = Path(place).expanduser()
    if path.is_dir():
        inside = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
        return sorted(one for one in inside if one.name.lower().endswith(endings))
    if path.is_file() or not glob.has_magic(place):
        return [path] if path.is_file() else []
    return sorted(one for name in glob.glob(str(path), recursive=True) if (one := Path(name)).is_file())


def each_once(exposures: Iterable[ExposureFacts]) -> list[ExposureFacts]:
    """Exposures without copies of the same one.

    Raises
    ------
    DataError
        If two different files are of the same exposure.
    """
    kept: dict[str, ExposureFacts] = {}
    for exposure in exposures:
        first = kept.setdefault(exposure.name, exposure)
        if first.sha256 != exposure.sha256:
            raise DataError(
                f"{first.path} and {exposure.path} are different files of the same exposure, {exposure.name}: remove one"
            )
    return list(kept.values())


def _first_rule(recipe: Recipe, exposure: ExposureFacts) -> str | None:
    rules = recipe.data.visits.items()
    return next((name for name, rule in rules if not _mismatch(recipe, rule, exposure)), None)


def _mismatch(recipe: Recipe, rule: VisitRule, exposure: ExposureFacts) -> str | None:
    """Why a rule does not take an exposure in; None if it does."""
    filters = rule.filters or recipe.instrument.filters
    if rule.proposal not in (None, exposure.proposal):
        return f"proposal {exposure.proposal}"
    if rule.visit is not None and visit_code(rule.visit) != exposure.visit:
        return f"visit {exposure.visit} of proposal {exposure.proposal}"
    if rule.observation is not None and not fnmatch.fnmatchcase(exposure.observation, rule.observation.lower()):
        return f"observation {exposure.observation}"
    if rule.target is not None and not fnmatch.fnmatchcase(exposure.target.upper(), rule.target.upper()):
        return f"target {exposure.target!r}"
    return None if exposure.filter_name in filters else f"filter {exposure.filter_name or 'none'}"


def _why_unused(recipe: Recipe, exposure: ExposureFacts) -> str:
    """What keeps an exposure from the rule that comes nearest to taking it in."""
    order = ("proposal", "visit", "observation", "target", "filter")
    reasons = [_mismatch(recipe, rule, exposure) or "" for rule in recipe.data.visits.values()]
    nearest = max(reasons, key=lambda reason: order.index(reason.partition(" ")[0]))
    return f"no rule under data.visits takes in {nearest}"


def _pointings(exposures: list[ExposureFacts]) -> list[list[ExposureFacts]]:
    """Exposures whose frames hold each other's centres, directly or by way of others."""
    frames = [footprints.hull(np.concatenate(exposure.outlines)) for exposure in exposures]
    centres = [footprints.centre(frame) for frame in frames]
    groups = [{index} for index in range(len(exposures))]
    for one, other in combinations(range(len(exposures)), 2):
        if footprints.holds(frames[one], centres[other]) and footprints.holds(frames[other], centres[one]):
            merged = next(found for found in groups if one in found) | next(found for found in groups if other in found)
            groups = [found for found in groups if not found & merged] + [merged]
    return [[exposures[index] for index in sorted(found)] for found in sorted(groups, key=min)]


def _repeats(recipe: Recipe, exposures: list[ExposureFacts]) -> list[list[ExposureFacts]]:
    """Exposures on the same pixels: of one observation, or with outlines that lie on each other to `SAME_PIXELS`."""
    reach = SAME_PIXELS * recipe.instrument.pixel_scale_arcsec
    groups: list[list[ExposureFacts]] = []
    for exposure in exposures:
        group = next((one for one in groups if _coincide(one[0], exposure, reach)), None)
        if group is None:
            groups.append([exposure])
        else:
            group.append(exposure)
    return groups


def _coincide(one: ExposureFacts, other: ExposureFacts, reach_arcsec: float) -> bool:
    if one.observation == other.observation:
        return True
    if len(one.outlines) != len(other.outlines):
        return False
    return all(
        footprints.distance_arcsec(mine[:, None], theirs[None]).min(axis=1).max() < reach_arcsec
        for mine, theirs in zip(one.outlines, other.outlines, strict=True)
    )


def siblings(visit: Visit, found: Sequence[Visit]) -> tuple[ExposureFacts, ...]:
    """Exposures of other pointings of the same visit of the archive, through the same filter, nearest in time first.

    At most `MOST_SIBLINGS`: they tell hot pixels and what background is usual, and every one is read for every pointing.
    """
    first = visit.exposures[0]

    def same(other: ExposureFacts) -> bool:
        return (other.proposal, other.visit, other.filter_name) == (first.proposal, first.visit, first.filter_name)

    others = [one for other in found if other.name != visit.name for one in other.exposures if same(one)]
    return tuple(sorted(others, key=lambda one: (abs(one.start_mjd - first.start_mjd), one.name))[:MOST_SIBLINGS])


def _with_splits(recipe: Recipe, groups: list[tuple[str, tuple[ExposureFacts, ...]]]) -> list[Visit]:
    names = _names([exposures for _, exposures in groups], recipe.data.split_by)
    visits = []
    for (rule_name, exposures), name in zip(groups, names, strict=True):
        rule = recipe.data.visits[rule_name]
        visits.append(Visit(name, rule_name, rule.field_type, rule.split or "train", rule.tweakreg, exposures))
    chosen = _chosen_for_test(recipe, visits)
    drawn = [
        Visit(one.name, one.rule, one.field_type, "test", one.tweakreg, one.exposures) if one.name in chosen else one
        for one in visits
    ]
    return sorted(drawn, key=lambda visit: visit.name)


def _names(groups: list[tuple[ExposureFacts, ...]], split_by: SplitBy) -> list[str]:
    """Proposal, visit and filter, or observation; with a number where that names several pointings or targets."""
    names: list[str] = []
    for exposures in groups:
        first = exposures[0]
        detail = f"{first.filter_name}-{first.observation}" if split_by == "observation" else first.filter_name
        name = str(VisitName(first.proposal, first.visit, detail))
        count = sum(other == name or other.startswith(f"{name}-p") for other in names)
        names.append(f"{name}-p{count + 1}" if count else name)
    return names


def _chosen_for_test(recipe: Recipe, visits: Sequence[Visit]) -> set[str]:
    """Of the visits without a split of their own, by rule: those that make up the test fraction, drawn by the build's seed.

    Visits that overlap on the sky go the same way, also with one whose split is given, unless data are split by observation.
    Of a mosaic that is most of a rule's visits nothing is drawn: it would leave nothing for training.
    """
    clusters = [[visit] for visit in visits] if recipe.data.split_by == "observation" else _overlapping(visits)
    chosen: set[str] = set()
    for rule_name, rule in recipe.data.visits.items():
        if rule.split is not None:
            continue
        count = sum(visit.rule == rule_name for visit in visits)
        wanted = round(rule.test_fraction * count)
        most = max(wanted, count // 2)
        drawn = sorted(clusters, key=lambda cluster: _draw(recipe.build.seed, min(visit.name for visit in cluster)))
        for cluster in drawn:
            members = {visit.name for visit in cluster if visit.rule == rule_name}
            given = {recipe.data.visits[visit.rule].split for visit in cluster} - {None}
            if members and (given == {"test"} or (not given and wanted > 0 and len(members) <= most)):
                chosen |= {visit.name for visit in cluster if recipe.data.visits[visit.rule].split is None}
                wanted -= len(members)
    return chosen


def _overlapping(visits: Sequence[Visit]) -> list[list[Visit]]:
    """Visits in groups: who overlaps on the sky, directly or by way of others, is in the same."""
    clusters = [{index} for index in range(len(visits))]
    for one, other in footprints.neighbours([visit.outlines for visit in visits]):
        if clusters[one] is not clusters[other] and footprints.overlap(visits[one].outlines, visits[other].outlines):
            clusters[one] |= clusters[other]
            for index in clusters[other]:
                clusters[index] = clusters[one]
    together = {id(cluster): cluster for cluster in clusters}
    return [[visits[index] for index in sorted(cluster)] for cluster in together.values()]


def _draw(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()


def _missing(recipe: Recipe, visits: Sequence[Visit]) -> list[str]:
    lines = []
    for name, rule in recipe.data.visits.items():
        members = [visit for visit in visits if visit.rule == name]
        found = sum(len(visit.exposures) for visit in members)
        wanted = (rule.exposures or recipe.build.quality.min_exposures) if rule.is_one_visit else 1
        if found < wanted:
            count = f"{found} of {wanted} exposures" if found else _expected(rule)
            lines.append(f"{name} ({rule.split or 'train and test'}): {_described(recipe, rule)}: {count}")
    return lines


def _cautions(recipe: Recipe, visits: Sequence[Visit]) -> list[str]:
    """Where visits differ from what the recipe says: perhaps short exposures that nobody wanted are among the files."""
    lines = []
    for visit in visits:
        rule = recipe.data.visits[visit.rule]
        times = [exposure.exposure_time_s for exposure in visit.exposures]
        if rule.exposures is not None and len(times) > rule.exposures:
            lines.append(
                f"{visit.name}: has {len(times)} exposures, {visit.rule} of the recipe has {rule.exposures}; all are used"
            )
        mean = sum(times) / len(times)
        if rule.exposure_time_s is not None and not 0.8 < mean / rule.exposure_time_s < 1.25:
            told = f"exposures of {min(times):g} to {max(times):g} s, {mean:.0f} s in the mean"
            lines.append(f"{visit.name}: {told}, {visit.rule} of the recipe has {rule.exposure_time_s:g} s")
    return lines


def _described(recipe: Recipe, rule: VisitRule) -> str:
    parts = [
        f"proposal {rule.proposal}" if rule.proposal is not None else "",
        f"visit {visit_code(rule.visit)}" if rule.visit is not None else "",
        f"observation {rule.observation}" if rule.observation is not None else "",
        f"target {rule.target}" if rule.target is not None else "",
        " or ".join(rule.filters or recipe.instrument.filters),
    ]
    return ", ".join(filter(None, parts))


def _expected(rule: VisitRule) -> str:
    return f"{rule.exposures} exposures" if rule.exposures else "all exposures"
