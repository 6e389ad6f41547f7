"""Pictures for notebooks show the pixels of the files, in the words of the files."""

import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from matplotlib.image import imread

import deepcr_zoo
from deepcr_zoo.errors import ImageWarning, InvalidFileError, InvalidImageError, UsageError
from tests.fitsfiles import acs_flc, scene
from tests.registries import SMALL


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return deepcr_zoo.clean_file(acs_flc(tmp_path_factory.mktemp("flc") / "a_flc.fits"), SMALL, "medmask")


def drawn(axes):
    (shown,) = axes.get_images()
    return shown.get_array()


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def pixels(done, version, ending=None):
    path = done.path if ending is None else next(path for path in done.outputs if path.endswith(ending))
    with fits.open(path) as hdus:
        return hdus["CRMASK" if ending == "_crmask.fits" else "SCI", version].data


@pytest.mark.parametrize("version", [1, 2])
def test_a_region_of_a_chip_shows_its_pixels_its_mask_and_its_repainted_pixels(done, version):
    region = np.s_[10:50, 20:90]
    figure = deepcr_zoo.plot.cleaned(done, chip=version, region=region)
    assert titles(figure) == ["exposure", f"mask: {SMALL.partition('/')[2] or SMALL}", "cleaned"]
    before, masked, after = figure.axes
    assert (drawn(before) == pixels(done, version)[region]).all()
    assert (drawn(after) == pixels(done, version, "_crclean.fits")[region]).all()
    mask = pixels(done, version, "_crmask.fits")[region] > 0
    (lines,) = masked.collections
    edges = sum(np.abs(np.diff(np.pad(mask.astype(int), 1), axis=axis)).sum() for axis in (0, 1))
    assert mask.any()
    assert len(lines.get_segments()) == edges


def test_a_whole_file_shows_every_chip_or_the_one_that_is_asked_for(done):
    assert len(titles(deepcr_zoo.plot.cleaned(done))) == 6
    (first, *_), names = deepcr_zoo.plot.cleaned(done, chip=2).axes, titles(deepcr_zoo.plot.cleaned(done, chip=2))
    assert [name.partition(",")[0] for name in names] == ["SCI 2: input", "SCI 2: mask", "SCI 2: cleaned"]
    assert (drawn(first) == pixels(done, 2)).all()


def test_a_mask_alone_is_drawn_without_a_cleaned_image(tmp_path):
    done = deepcr_zoo.clean_file(acs_flc(tmp_path / "a_flc.fits"), SMALL, "none")
    assert len(titles(deepcr_zoo.plot.cleaned(done))) == 4


def test_a_packed_exposure_of_one_image_is_drawn(tmp_path):
    path = tmp_path / "night.fits.gz"
    fits.PrimaryHDU(scene()[0]).writeto(path)
    done = deepcr_zoo.clean_file(path, "CCD-ANY-3-16")
    assert (drawn(deepcr_zoo.plot.cleaned(done).axes[0]) == fits.getdata(path)).all()


def test_notebooks_show_the_facts_and_the_picture_and_no_code_of_a_file_name(tmp_path):
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    folder.mkdir()
    done = deepcr_zoo.clean_file(acs_flc(folder / "a_flc.fits"), SMALL, "medmask")
    shown = done._repr_html_()
    assert f"{done.pixels:,} (" in shown
    assert "&lt;img src=x" in shown
    assert re.findall(r"<img [^>]{1,31}", shown) == ['<img src="data:image/png;base64,iVBO']
    (picture,) = re.findall(r"base64,([^\"]+)", shown)
    assert imread(io.BytesIO(base64.b64decode(picture))).ndim == 3
    shutil.rmtree(folder)
    assert "<img" not in done._repr_html_()
    with pytest.raises(InvalidFileError, match="a_flc"):
        deepcr_zoo.plot.cleaned(done)


def test_masks_of_several_methods_stand_beside_one_image():
    image, mask = scene()
    figure = deepcr_zoo.plot.masks(image, {"truth": mask, "nothing": np.zeros(mask.shape)}, image * 0)
    assert titles(figure) == ["exposure", "mask: truth", "mask: nothing", "cleaned"]
    limits = {axes.get_images()[0].get_clim() for axes in figure.axes}
    assert len(limits) == 1
    assert figure._repr_html_().startswith('<img src="data:image/png;base64,')


def test_what_cannot_be_drawn_is_an_error_of_one_sentence(done):
    image, mask = scene()
    with pytest.raises(InvalidImageError, match="expected the shape"):
        deepcr_zoo.plot.masks(image, {}, image[1:])
    with pytest.raises(InvalidImageError):
        deepcr_zoo.plot.masks(image, {"short": mask[1:]})
    with pytest.raises(InvalidImageError, match="two axes"):
        deepcr_zoo.plot.masks(image[0], {})
    with pytest.raises(UsageError, match="region"):
        deepcr_zoo.plot.masks(image, {}, region=np.s_[500:, :])
    with pytest.raises(UsageError, match="no chip 3"):
        deepcr_zoo.plot.cleaned(done, chip=3)


@pytest.mark.parametrize(
    "region", [np.s_[10:20], np.s_[10:20, 5], (slice("a"), slice(3)), {1: 2, 3: 4}, np.s_[::0, :], np.s_[9:3, :], 7]
)
def test_a_region_that_is_none_is_an_error_of_one_sentence(region):
    with pytest.raises(UsageError, match="region: expected rows and columns"):
        deepcr_zoo.plot.masks(scene()[0], {}, region=region)


@pytest.mark.parametrize("image", [np.full((8, 8), "x"), np.full((8, 8), None), np.zeros((8, 8), complex)])
def test_an_image_without_numbers_is_an_error_of_one_sentence(image):
    with pytest.raises(InvalidImageError, match="expected numbers"):
        deepcr_zoo.plot.masks(image, {})


def test_masks_without_names_are_an_error_of_one_sentence():
    image, mask = scene()
    with pytest.raises(UsageError, match="a mask for each name"):
        deepcr_zoo.plot.masks(image, [mask])


@pytest.fixture
def own_done(tmp_path):
    return deepcr_zoo.clean_file(acs_flc(tmp_path / "a_flc.fits"), SMALL, "medmask")


def test_the_mask_of_an_exposure_that_was_replaced_is_drawn_with_a_caution(own_done):
    with fits.open(own_done.path, mode="update", memmap=False) as hdus:
        hdus["SCI", 1].data[0, 0] += 1
    with pytest.warns(ImageWarning, match="with other bytes"):
        deepcr_zoo.plot.cleaned(own_done)


def no_image(hdus):
    del hdus[1:]


def another_shape(hdus):
    hdus["SCI", 1].data = hdus["SCI", 1].data[:8]


@pytest.mark.parametrize("ending", ["flc.fits", "_crclean.fits"])
@pytest.mark.parametrize("change", [no_image, another_shape])
@pytest.mark.filterwarnings("ignore:.*with other bytes")
def test_what_fits_its_mask_no_longer_is_an_error_and_notebooks_leave_the_picture_out(own_done, change, ending):
    path = next(path for path in (own_done.path, *own_done.outputs) if path.endswith(ending))
    with fits.open(path, mode="update", memmap=False) as hdus:
        change(hdus)
    with pytest.raises(InvalidFileError, match="no image of the mask SCI,1"):
        deepcr_zoo.plot.cleaned(own_done)
    assert "<img" not in own_done._repr_html_()


def test_a_mask_of_a_chip_that_no_exposure_has_is_an_error_and_notebooks_leave_the_picture_out(own_done):
    mask = next(path for path in own_done.outputs if path.endswith("_crmask.fits"))
    with fits.open(mask, mode="update", memmap=False) as hdus:
        hdus["CRMASK", 1].ver = -7
    with pytest.raises(InvalidFileError, match="no image of the mask SCI,-7"):
        deepcr_zoo.plot.cleaned(own_done)
    assert "<img" not in own_done._repr_html_()


def test_a_name_with_half_a_formula_is_shown_as_it_is(tmp_path):
    done = deepcr_zoo.clean_file(acs_flc(tmp_path / "a$x^{$_flc.fits"), SMALL, "none", preview=True)
    assert Path(done.outputs[-1]).read_bytes().startswith(b"\x89PNG")
    figure = deepcr_zoo.plot.cleaned(done)
    figure.savefig(tmp_path / "mine.png")
    assert "$x^{$" in figure.get_suptitle()
    assert "<img" in done._repr_html_()
