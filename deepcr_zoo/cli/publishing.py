"""Commands that share models and registries: publish, update, check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from deepcr_zoo import locations
from deepcr_zoo.cli.bench import print_gates
from deepcr_zoo.cli.console import (
    TerminalReporter,
    message,
    notes,
    print_error,
    print_json,
    print_line,
    print_note,
    print_result,
    print_table,
    whole,
)
from deepcr_zoo.cli.options import AsJson
from deepcr_zoo.errors import DeepcrZooError, UsageError
from deepcr_zoo.zoo import registries, updates
from deepcr_zoo.zoo.hub.connection import disable_progress_bars
from deepcr_zoo.zoo.registry import REPOSITORY_PATTERN

if TYPE_CHECKING:
    from deepcr_zoo.publishing.checking import CheckedItem
    from deepcr_zoo.publishing.releases import Release
    from deepcr_zoo.publishing.upload import Publication
    from deepcr_zoo.publishing.workflow import Published

Repo = Annotated[str | None, Option("--repo", metavar="ORG/NAME", help="repository on the Hub [default: the zoo's]")]
Into = Annotated[Path | None, Option("--into", metavar="DIR", help="checkout for entry and card [default: this one]")]


def publish(
    what: Annotated[str | None, Argument(metavar="RUN|NAME@VERSION", help="folder of a run, or a version")] = None,
    repo: Repo = None,
    as_pull_request: Annotated[bool, Option("--pr", help="open a pull request on the Hub, write no entry yet")] = False,
    finish: Annotated[bool, Option("--finish", help="after the merge: write the entry; NAME@VERSION: set its tag")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="show the files to upload and the gates")] = False,
    private: Annotated[bool, Option("--private", help="create the repository as private")] = False,
    bundle: Annotated[bool, Option("--bundle", help="write it into the checkout with its weights, upload nothing")] = False,
    seed: Annotated[bool, Option("--seed", help="every bundled model; --repo then names ORG alone")] = False,
    registry: Annotated[bool, Option("--registry", help="lock and cards of the checkout, for 'deepcr-zoo update'")] = False,
    into: Into = None,
) -> None:
    """Publish a model on the Hugging Face Hub, if every gate has passed, and write its registry entry.

    One commit, then a tag that never moves. The upload is downloaded again and verified before the entry is written.
    A second run changes nothing, and an interrupted upload continues where it ended. The token is HF_TOKEN.
    """
    if not notes.is_terminal:
        disable_progress_bars()
    if sum((what is not None, seed, registry)) != 1:
        raise UsageError("name the folder of a run, or NAME@VERSION, or give --seed or --registry (one of them)")
    of_one = as_pull_request + finish + bundle
    if of_one + dry_run > 1 or ((seed or registry) and of_one):
        raise UsageError("--pr, --finish, --bundle and --dry-run exclude each other, and all but the last are for one model")
    if private and (of_one or dry_run):
        raise UsageError(
            "--private is for a repository that is made: leave it out with --pr, --finish, --bundle and --dry-run"
        )
    if seed:
        _publish_seed(repo, dry_run, private, into)
    elif registry:
        _publish_registry(repo, dry_run, private, into)
    elif what is not None and finish and not Path(what).is_dir():
        _set_tag(what)
    elif what is not None and (as_pull_request or dry_run):
        _propose(what, repo, dry_run)
    elif what is not None:
        _publish_model(what, repo, into, finish=finish, bundle=bundle, private=private)


def update(
    repo: Annotated[str, Option("--repo", metavar="ORG/NAME", help="repository of the registry")] = updates.REPOSITORY,
    forget: Annotated[bool, Option("--forget", help="go back to the registry as it ships")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch the newest registry from the Hub: it may add names and versions, but never alter any."""
    if forget:
        updates.forget()
        print_line("the registry is that of this package")
        return
    disable_progress_bars()  # else one for each file
    found = updates.update(_repository(repo))
    if as_json:
        print_json(found.kept.model_dump(mode="json") | {"added": found.added, "is_new": found.is_new})
        return
    print_note(f"{repo} at commit {found.kept.commit}" + ("" if found.is_new else ": known already"))
    for reference in found.added:
        print_result(reference)
    if not found.added:
        print_note("no new versions")


def check(
    folder: Annotated[Path | None, Argument(metavar="DIR", help="checkout or registry [default: this checkout]")] = None,
    against: Annotated[
        Path | None, Option("--against", metavar="DIR", help="earlier checkout; nothing in it may be altered")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check everything in zoo/, cards/ and recipes/: schemas, hashes, test vectors, references, licences, recipes.

    Exit code 1: there are problems; each is named.
    """
    from deepcr_zoo.publishing import checking

    root = folder or locations.data_root()
    for one in (root, against):
        if one is not None and not (one / "zoo").is_dir():
            raise UsageError(
                f"{one}: expected a checkout of the repository, or the folder of a registry, with zoo/ and cards/"
            )
    looked = []
    for found in checking.check(root, against):
        looked.append(found)
        if not as_json:
            _print_checked(found)
    if as_json:
        print_json([{"what": found.what, "problems": list(found.problems)} for found in looked])
    wrong = sum(bool(found.problems) for found in looked)
    print_note(f"{len(looked)} looked at, {wrong} wrong")
    if wrong:
        raise typer.Exit(1)


def site(
    output_dir: Annotated[Path, Option(help="new folder for the pages")] = Path("site"),
) -> None:
    """Render the registry as a static site: a list of all models, and a page for each version.

    Prints the path of each page. A page has the text of the model's page on the Hub, pictures and curves.
    """
    from deepcr_zoo.publishing.site import write_site

    for path in write_site(registries.default_registry(), output_dir, TerminalReporter()):
        print_result(path)


def _print_checked(found: CheckedItem) -> None:
    print_line(f"{'wrong' if found.problems else 'right'}  {found.what}")
    for problem in found.problems:
        print_line(f"       {problem}")


def _set_tag(reference: str) -> None:
    from deepcr_zoo.publishing import workflow

    publication = workflow.tag_registered(reference)
    how = "tag set" if publication.is_new else "had its tag before"
    print_note(f"{reference}: {how}, {publication.address} at commit {publication.pin.commit}")


def _publish_model(what: str, repo: str | None, into: Path | None, *, finish: bool, bundle: bool, private: bool) -> None:
    """Write a model's entry into a checkout, with its weights or with the pin of its upload."""
    from deepcr_zoo.publishing import workflow
    from deepcr_zoo.publishing.entries import find_checkout
    from deepcr_zoo.publishing.releases import repository_of

    checkout, release = find_checkout(into), workflow.find_release(what)
    if bundle:
        for path in workflow.bundle(release, checkout):
            print_result(path)
    elif finish:
        _print_published(release, workflow.finish(release, repository_of(release, repo), checkout))
    else:
        _print_published(release, workflow.publish(release, repository_of(release, repo), checkout, private=private))


def _propose(what: str, repo: str | None, dry_run: bool) -> None:
    """Open a pull request on the Hub, or show what it would hold."""
    from deepcr_zoo.publishing import workflow
    from deepcr_zoo.publishing.releases import repository_of

    release = workflow.find_release(what)
    repository = repository_of(release, repo)
    if dry_run:
        _show(release, repository)
        return
    proposal = workflow.propose(release, repository)
    print_note(f"{release.reference}: " + ("waits to be merged" if proposal.is_new else "was proposed before"))
    print_note("after the merge the same command with --finish in place of --pr writes the registry entry")
    for remark in release.remarks:
        message("caution", remark, "caution")
    print_result(proposal.address)


def _publish_seed(organisation: str | None, dry_run: bool, private: bool, into: Path | None) -> None:
    """Publish all bundled models; a failure of one does not stop the others."""
    from deepcr_zoo.publishing import workflow
    from deepcr_zoo.publishing.entries import find_checkout
    from deepcr_zoo.publishing.releases import repository_of

    if organisation is not None and "/" in organisation:
        raise UsageError(f"--repo {organisation}: expected ORG alone, each model has a repository of its own in it")
    checkout = None if dry_run else find_checkout(into)
    references, failed = list(workflow.seed_references(registries.default_registry())), []
    for reference in TerminalReporter().track(references, "publishing", len(references)):
        try:
            release = workflow.find_release(reference)
            repository = repository_of(release, organisation)
            if checkout is None:
                _show(release, repository)
            else:
                _print_published(release, workflow.publish(release, repository, checkout, private=private))
        except UsageError:
            raise
        except (DeepcrZooError, typer.Exit) as error:
            failed.append(reference)
            if isinstance(error, DeepcrZooError):
                print_error(error)
    if failed:
        message("error", f"{len(failed)} of {len(references)} failed: {', '.join(failed)}", "error")
        raise typer.Exit(1)


def _publish_registry(repo: str | None, dry_run: bool, private: bool, into: Path | None) -> None:
    from deepcr_zoo.publishing import registryfiles
    from deepcr_zoo.publishing.entries import find_checkout

    checkout, repository = find_checkout(into), _repository(repo or updates.REPOSITORY)
    if dry_run:
        _show_files(registryfiles.registry_files(checkout))
        return
    _print_publication("the registry", registryfiles.publish_registry(checkout, repository, private=private))


def _repository(given: str) -> str:
    if not re.fullmatch(REPOSITORY_PATTERN, given):
        raise UsageError(f"--repo {given}: expected ORG/NAME")
    return given


def _show(release: Release, repository: str) -> None:
    """Print the files to upload and the verdict of each gate; exit code 1 if one fails."""
    print_line(f"{release.reference} -> {repository}, commit {release.title!r}, then tag {release.tag}")
    _show_files(dict(release.in_repository(repository).files))
    print_gates(release.verdict)
    for remark in release.remarks:
        message("caution", remark, "caution")
    if not release.verdict.passes:
        message("refused", f"{release.reference}: a gate fails, it would not be published", "error")
        raise typer.Exit(1)
    print_note("nothing was uploaded (--dry-run)")


def _show_files(files: dict[str, bytes]) -> None:
    import hashlib

    rows = [(name, f"{len(data):,}", hashlib.sha256(data).hexdigest()) for name, data in sorted(files.items())]
    print_table(["file", whole("bytes"), "sha256"], rows)


def _print_published(release: Release, done: Published) -> None:
    _print_publication(release.reference, done.publication)
    for remark in [*release.remarks, *([done.caution] if done.caution else [])]:
        message("caution", remark, "caution")
    print_note("downloaded again and verified" + ("; to be committed:" if done.written else "; the checkout has its entry"))
    for path in done.written:
        print_result(path)


def _print_publication(what: str, publication: Publication) -> None:
    how = "published" if publication.is_new else "was published before"
    print_note(f"{what}: {how}, {publication.address} at commit {publication.pin.commit}")
