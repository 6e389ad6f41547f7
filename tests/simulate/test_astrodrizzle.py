import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits

from deepcr_zoo.simulate.simulation import write_visit
from deepcr_zoo.simulate.truth import read_truth, truth_path
from tests.simulate.visits import small_visit

pytest.importorskip("drizzlepac")
DRIZZLE = """
import glob
from drizzlepac.astrodrizzle import AstroDrizzle
AstroDrizzle(sorted(glob.glob("*_flc.fits")), configobj=None, output="final", updatewcs=False, wcskey="", build=False,
    clean=False, preserve=False, restore=False, overwrite=False, resetbits=4096, num_cores=1, in_memory=False, context=False,
    static=False, skysub=True, skymethod="localmin", driz_separate=True, driz_sep_bits="256", median=True,
    combine_type="minmed", blot=True, driz_cr=True, driz_cr_corr=True, driz_cr_snr="5.0 1.5", driz_cr_grow=1,
    driz_combine=False, final_bits="256", stepsize=10)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["acs-wfc", "wfc3-uvis"])
def test_astrodrizzle_takes_a_visit_and_finds_its_cosmic_rays(tmp_path, name):
    paths = write_visit(small_visit(11, name=name, exposures=3, side=512), tmp_path)
    done = subprocess.run([sys.executable, "-c", DRIZZLE], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    inner = np.s_[40:-40, 40:-40]
    for path in paths:
        (truth,) = read_truth(truth_path(path))
        mask = fits.getdata(tmp_path / f"{path.name[:9]}_sci1_crmask.fits")[inner] == 0
        hit = (truth.cosmic_rays > 3 * truth.noise)[inner]
        good = (fits.getdata(path, ("DQ", 1)) == 0)[inner]
        assert mask[hit & good].mean() > 0.9
        assert mask[~hit & good].mean() < 0.003
