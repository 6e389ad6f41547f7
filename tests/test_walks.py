"""How many files a reader opens to follow an image, an exposure and a run; docs/architecture.md states these numbers."""

import re

import numpy as np
import pytest
import torch

import deepcr_zoo
from deepcr_zoo.bench import BenchmarkResults, Run
from deepcr_zoo.bench.gates import Evidence, verdict
from deepcr_zoo.bench.subjects import Subject
from deepcr_zoo.dataset import Dataset
from deepcr_zoo.exposures.products import ChipMask
from deepcr_zoo.exposures.reading import Chip, Exposure
from deepcr_zoo.models import MaskModel
from deepcr_zoo.models.images import ImageStack
from deepcr_zoo.models.testvectors import example_image
from deepcr_zoo.publishing import workflow
from deepcr_zoo.publishing.releases import Release
from deepcr_zoo.zoo import Card
from tests.bench.test_gates import evidence  # noqa: F401
from tests.conftest import CHECKOUT
from tests.fitsfiles import ACS, scene, science, write
from tests.publishing.conftest import checkout, release  # noqa: F401
from tests.publishing.releases import REPOSITORY
from tests.registries import SMALL
from tests.walks import files_passed

pytest_plugins = ["tests.zoo.hub.fixtures"]

STATED = dict(re.findall(r"^\| (.+?) \| (\d+) \|", (CHECKOUT / "docs" / "architecture.md").read_text(), re.MULTILINE))
PIXELS = (np.ndarray, torch.Tensor, ImageStack)


def test_an_image_becomes_a_mask_in_at_most_eight_files():
    image, _ = example_image(seed=1)
    passed = files_passed(lambda: deepcr_zoo.load(SMALL).mask(image), PIXELS)
    assert len(passed) == int(STATED["image to mask"]) <= 8, passed


def test_an_exposure_becomes_a_cleaned_copy_in_at_most_fourteen_files(tmp_path):
    path = write(tmp_path / "a_flt.fits", science(scene()[0], "ELECTRONS"), **ACS)
    deepcr_zoo.clean_file(path, output_dir=tmp_path / "before")  # loads the networks, whose weights are no pixels
    passed = files_passed(lambda: deepcr_zoo.clean_file(path), (*PIXELS, Exposure, Chip, ChipMask))
    assert len(passed) == int(STATED["exposure to cleaned copy"]) <= 14, passed


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own
@pytest.mark.usefixtures("keeper")
@pytest.mark.slow
def test_a_run_reaches_the_hub_in_at_most_twenty_five_files(evidence, release, checkout, contract_hub):  # noqa: F811
    kinds = (Run, Subject, Evidence, Release, Dataset, Card, BenchmarkResults, MaskModel)
    gates = files_passed(lambda: verdict(evidence), kinds)
    upload = files_passed(lambda: workflow.publish(release, REPOSITORY, checkout), kinds)
    passed = sorted({*gates, *upload})
    assert len(passed) <= int(STATED["run to Hub"]) <= 25, passed
