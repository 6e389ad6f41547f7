"""Folders that others may write to: they may rename what is there and put links, but reach no other file of the user."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path

import pytest

from deepcr_zoo import files, permissions
from deepcr_zoo.errors import IntegrityError, OutputError
from deepcr_zoo.exposures import cleaning
from deepcr_zoo.exposures.cleaning import clean_file
from deepcr_zoo.files import scratch_folder, sweep_leftovers, whole_folder, write_atomically, write_together
from deepcr_zoo.machine import process_space
from deepcr_zoo.progress import NullReporter
from deepcr_zoo.training.pipeline import train
from tests.fitsfiles import acs_flc
from tests.registries import SMALL
from tests.training.stamps import recipe_of, write_dataset

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")


@pytest.fixture
def secret(tmp_path):
    """A file that nobody but the user may read."""
    path = tmp_path / "home" / ".netrc"
    path.parent.mkdir()
    path.write_text("password")
    path.chmod(0o600)
    return path


@pytest.fixture
def shared(tmp_path):
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


def mode_of(path):
    return path.stat().st_mode & 0o7777


def lead(path, elsewhere):
    """What others do: put a link in the place of a file."""
    path.unlink()
    path.symlink_to(elsewhere)


def test_permissions_of_a_replaced_file_are_given_to_no_file_that_a_link_leads_to(secret, shared, monkeypatch):
    product, created = shared / "x_crmask.fits", permissions._created
    product.write_text("old")
    product.chmod(0o666)

    def attacked(path, mode):
        file = created(path, mode)
        lead(path, secret)
        return file

    monkeypatch.setattr(permissions, "_created", attacked)
    write_atomically(b"new", product)
    assert mode_of(secret) == 0o600


def test_permissions_of_a_copy_that_is_kept_are_given_to_no_file_that_a_link_leads_to(secret, shared, monkeypatch):
    product, copy = shared / "x_crmask.fits", shutil.copyfileobj
    product.write_text("old")
    product.chmod(0o4755)

    def attacked(original, file):
        copy(original, file)
        lead(Path(file.name), secret)

    def refuse(*_, **__):
        raise OSError(errno.EPERM, "no hard links")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(shutil, "copyfileobj", attacked)
    write_together({product: b"new", shared / "x_crclean.fits": b"new"})
    assert mode_of(secret) == 0o600
    assert product.read_bytes() == b"new"


def test_a_copy_that_cannot_be_made_leaves_nothing(shared, monkeypatch):
    product = shared / "x_crmask.fits"
    product.write_text("old")

    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(shutil, "copyfileobj", refuse)
    with pytest.raises(OSError, match="full"):
        write_together({product: b"new", shared / "x_crclean.fits": b"new"})
    assert {path.name: path.read_text() for path in shared.iterdir()} == {"x_crmask.fits": "old"}


def test_a_folder_of_the_user_that_others_have_given_the_name_of_a_leftover_stays(shared):
    (nights := shared / "nights").mkdir()
    (nights / "n1.fits").write_text("mine")
    leftover = shared / f".x_crclean.fits.{process_space()}-4194303-deadbeef.part"
    nights.rename(leftover)
    write_atomically(b"new", shared / "x_crclean.fits")
    sweep_leftovers(shared)
    assert (leftover / "n1.fits").read_text() == "mine"


def test_a_folder_of_the_user_that_others_put_in_the_place_of_an_unfinished_one_stays(shared):
    (nights := shared / "nights").mkdir()
    (nights / "n1.fits").write_text("mine")
    with scratch_folder(shared / "site") as folder:
        folder.parent.rename(shared / "away")
        nights.rename(folder.parent)
    assert (folder.parent / "n1.fits").read_text() == "mine"


def test_a_link_in_the_place_of_an_unfinished_folder_leads_to_no_folder_of_the_user(shared, tmp_path):
    (public := tmp_path / "public_html").mkdir()
    (public / "index.html").write_text("mine")

    def attacked():
        with whole_folder(shared / "site") as folder:
            folder.parent.rename(shared / "away")
            folder.parent.symlink_to(public)
            write = (folder / "index.html").write_text
            with pytest.raises(FileNotFoundError):
                write("theirs")

    with pytest.raises(OutputError, match="was removed by another process"):
        attacked()
    assert [path.name for path in public.iterdir()] == ["index.html"]
    assert (public / "index.html").read_text() == "mine"


def test_an_unfinished_folder_can_be_listed_by_its_user_alone(shared):
    with scratch_folder(shared / "site") as folder:
        assert mode_of(folder.parent) & 0o777 == 0o700
        assert files._UNFINISHED.fullmatch(folder.name)


def test_products_have_the_permissions_of_the_file_that_was_read(shared, tmp_path, monkeypatch):
    private, public = acs_flc(tmp_path / "private.fits"), acs_flc(tmp_path / "public.fits")
    private.chmod(0o600)
    public.chmod(0o666)
    exposure, room = shared / "y_flc.fits", cleaning.check_room
    exposure.symlink_to(private)

    def attacked(*given):
        lead(exposure, public)
        room(*given)

    monkeypatch.setattr(cleaning, "check_room", attacked)
    done = clean_file(exposure, SMALL, "none", output_dir=tmp_path / "out")
    assert [mode_of(Path(one)) for one in done.outputs] == [0o600]


def test_a_public_product_in_the_place_of_a_private_one_widens_nothing(shared):
    private, public = acs_flc(shared / "private_flc.fits"), acs_flc(shared / "public_flc.fits")
    private.chmod(0o600)
    public.chmod(0o644)
    for path in (private, public):
        done = clean_file(path, SMALL, "none")
    for path in map(Path, done.outputs):
        path.rename(path.with_name(path.name.replace("public", "private")))
    done = clean_file(private, SMALL, "none", overwrite=True)
    assert [mode_of(Path(one)) for one in done.outputs] == [0o600]


def test_what_is_replaced_on_a_disk_without_modes_is_for_the_user_alone(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError

    path = tmp_path / "mask.fits"
    path.write_text("old")
    path.chmod(0o644)
    monkeypatch.setattr(os, "fchmod", refused)
    write_together({path: b"new"}, permissions=permissions.Permissions(0o640))
    assert (path.read_bytes(), mode_of(path)) == (b"new", 0o600)


def test_what_is_published_is_read_through_no_link(secret, shared):
    (shared / "report").mkdir()
    (shared / "report" / "roc.png").write_text("drawn")
    (shared / "card.yaml").write_text("card")
    assert files.read_below(shared, "card.yaml") == b"card"
    assert files.read_below(shared, "report/roc.png") == b"drawn"
    lead(shared / "card.yaml", secret)
    shutil.rmtree(shared / "report")
    (shared / "report").symlink_to(secret.parent)
    for name in ("card.yaml", f"report/{secret.name}"):
        with pytest.raises((OSError, IntegrityError)):
            files.read_below(shared, name)


class Peer(NullReporter):
    """Puts a link to another run in the place of the run, after its first epoch."""

    def __init__(self, private):
        self.private = private

    def epoch(self, record):
        (folder,) = self.private.parents[1].glob("shared/*/*")
        if not folder.is_symlink():
            folder.rename(self.private.parents[1] / "away")
            folder.symlink_to(self.private)


def test_a_training_whose_folder_was_exchanged_writes_into_no_other_run(tmp_path):
    recipe = recipe_of("mask", "train.schedule.max_epochs=2")
    dataset = write_dataset(tmp_path / "home", recipe=recipe)
    trained = train(recipe, dataset=dataset, runs=tmp_path / "mine", device="cpu", prove=False)
    private = trained.folder.rename(tmp_path / "mine" / "private")
    before = {path.name: path.read_bytes() for path in private.iterdir() if path.is_file()}
    with pytest.raises(OutputError, match="is not the folder any more that this process began to write to"):
        train(recipe, dataset=dataset, runs=tmp_path / "shared", device="cpu", prove=False, reporter=Peer(private))
    assert {path.name: path.read_bytes() for path in private.iterdir() if path.is_file()} == before
