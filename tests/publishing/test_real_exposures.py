"""A network of real exposures: built, trained, proven, published, pulled, and used on a file of the archive."""

import shutil

import numpy as np
import pytest
from astropy.io import fits

from tests.conftest import STIS_EXPOSURES
from tests.publishing.test_whole_path import copy_checkout, said

pytest_plugins = ["tests.zoo.hub.fixtures"]

NAME = "STIS-CCD-G430M-2-32"
SHORT = (
    "train.architecture.hidden=8",
    "train.schedule.batch_size=4",
    "train.schedule.max_epochs=12",
    "train.schedule.freeze_after_epochs=8",
    "benchmark.lacosmic_objlims=[2.0]",
    "benchmark.lacosmic_objlim={spectrum: 2.0}",
    "benchmark.lacosmic_sigclips=[6.3, 16.0, 30.0]",
    "gates.max_star_core_rate=0.4",
    "benchmark.bootstrap_blocks=200",
)
"""Two observations, fewer channels and epochs, a coarse grid: minutes become seconds, and cores of spectral knots suffer."""


@pytest.mark.slow
@pytest.mark.network
def test_a_network_of_real_exposures_passes_its_gates_is_published_and_cleans_a_raw_file(contract_hub, tmp_path):
    if not STIS_EXPOSURES:
        pytest.skip("shared/data/stis_crsplit is absent: real STIS exposures are not part of the project")
    checkout = copy_checkout(tmp_path / "checkout")
    exposures = tmp_path / "exposures"
    exposures.mkdir()
    for path in STIS_EXPOSURES:
        if path.name[7] in "25":
            shutil.copy(path, exposures)
    settings = " ".join(f"--set '{setting}'" for setting in SHORT)
    trained = said(
        checkout,
        f"deepcr-zoo train recipes/stis-ccd.yaml --data {exposures} {settings}",
        DEEPCR_ZOO_DATA=str(tmp_path / "data"),
    )
    assert "passes its gates" in trained, trained
    said(checkout, f"deepcr-zoo publish runs/{NAME}/*", HF_TOKEN="hf_write", DEEPCR_ZOO_DATA=str(tmp_path / "data"))
    assert (checkout / "zoo" / "mask" / f"{NAME}.yaml").is_file()
    card = said(checkout, f"deepcr-zoo info {NAME}")
    assert "split by observation" in " ".join(card.split())

    fresh = {"DEEPCR_ZOO_CACHE": str(tmp_path / "fresh-cache")}
    assert "from the hub" in said(checkout, f"deepcr-zoo pull {NAME}", **fresh)
    raw = exposures / "o56502050_raw.fits"
    said(checkout, f"deepcr-zoo clean {raw} --model {NAME} --inpaint none --output-dir {tmp_path / 'cleaned'}", **fresh)
    with fits.open(tmp_path / "cleaned" / "o56502050_raw_crmask.fits") as hdus:
        shares = [hdu.data.astype(bool).mean() for hdu in hdus if hdu.name == "CRMASK"]
    assert np.all((np.array(shares) > 0.03) & (np.array(shares) < 0.15))
