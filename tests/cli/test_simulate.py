"""``deepcr-zoo simulate``: exposures of each field type, with their truth beside them."""

from pathlib import Path

import pytest
from astropy.io import fits
from typer.testing import CliRunner

from deepcr_zoo.cli.main import app
from deepcr_zoo.errors import OutputError
from deepcr_zoo.simulate.truth import read_truth, truth_path


def simulate(*arguments):
    return CliRunner().invoke(app, ["simulate", *map(str, arguments)])


def test_a_visit_of_the_recipe_s_instrument_is_written_with_its_truth(tmp_path):
    kind = ("--field-type", "globular_cluster", "--exposures", 2, "--exposure-time", 90, "--seed", 7)
    done = simulate("wfc3-uvis", *kind, "--side", 256, "--output-dir", tmp_path)
    files = [Path(line) for line in done.stdout.split()]
    assert [path.parent for path in files] == [tmp_path / "globular_cluster-7"] * 2
    for path in files:
        header = fits.getheader(path)
        assert (header["INSTRUME"], header["DETECTOR"], header["EXPTIME"]) == ("WFC3", "UVIS", 90)
        (truth,) = read_truth(truth_path(path))
        assert truth.cosmic_rays.shape == fits.getdata(path, ("SCI", 1)).shape == (256, 256)
        assert (truth.cosmic_rays > 0).any()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("no folder")
    error = simulate("acs-wfc-f606w", "--side", "256", "--output-dir", tmp_path / "file").exception
    assert isinstance(error, OutputError)
    assert (
        str(error) == f"{tmp_path}/file/extragalactic-1000: cannot be written: Not a directory; choose another --output-dir"
    )


def test_exposures_of_two_runs_do_not_mix(tmp_path):
    (tmp_path / "extragalactic-1").mkdir()
    (tmp_path / "extragalactic-1" / "mine_flc.fits").touch()
    done = simulate("acs-wfc-f606w", "--field-type", "extragalactic", "--seed", 1, "--side", 128, "--output-dir", tmp_path)
    assert "extragalactic-1 is no empty folder" in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--field-type", "moon"), "--field-type moon: expected one of extragalactic"),
        (("--full-frame", "--side", "256"), "--full-frame and --side"),
        (("--side", "9999"), "side: expected"),
        (("--exposures", "99"), "exposures: expected"),
        (("--side", "0"), "side: expected"),
        (("--exposure-time", "0"), "exposure_time_s: expected > 0"),
    ],
)
def test_what_cannot_be_simulated_is_refused_before_anything_is_written(tmp_path, arguments, message):
    done = simulate("acs-wfc-f606w", *arguments, "--output-dir", tmp_path / "out")
    assert message in str(done.exception)
    assert not (tmp_path / "out").exists()
