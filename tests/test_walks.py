"""How many files a reader opens to follow the main paths; docs/architecture.md states these numbers."""

import re

import pytest

import deepcr_zoo
from deepcr_zoo.models.testvectors import example_image
from deepcr_zoo.publishing import steps
from tests.conftest import CHECKOUT
from tests.fitsfiles import ACS, scene, science, write
from tests.publishing.conftest import checkout, release  # noqa: F401
from tests.publishing.releases import REPOSITORY
from tests.registries import SMALL
from tests.walks import files_entered

pytest_plugins = ["tests.zoo.hub.fixtures"]


STATED = dict(re.findall(r"^\| (.+?) \| (\d+) \|", (CHECKOUT / "docs" / "architecture.md").read_text(), re.MULTILINE))


def test_an_image_becomes_a_mask_in_few_files():
    image, _ = example_image(seed=1)
    model = deepcr_zoo.load(SMALL)
    entered = files_entered(lambda: model.mask(image))
    assert len(entered) == int(STATED["image to mask"]) <= 8, entered


def test_an_exposure_becomes_a_cleaned_copy_in_few_files(tmp_path):
    first, second = (
        write(tmp_path / name, science(scene()[0], "ELECTRONS"), **ACS) for name in ("a_flt.fits", "b_flt.fits")
    )
    deepcr_zoo.clean_file(first)  # loads the networks
    entered = files_entered(lambda: deepcr_zoo.clean_file(second))
    assert len(entered) == int(STATED["exposure to cleaned copy"]), entered


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own
@pytest.mark.usefixtures("keeper")
def test_a_release_reaches_the_hub_in_few_files(release, checkout, contract_hub):  # noqa: F811
    entered = files_entered(lambda: steps.publish(release, REPOSITORY, checkout))
    assert len(entered) == int(STATED["release to Hub"]), entered
