"""In a real notebook kernel, progress is a bar, and results are tables and pictures."""

import nbformat
import pytest
from nbclient import NotebookClient

CELLS = (
    "from deepcr_zoo.cli import TerminalReporter\nlen(list(TerminalReporter().track(range(30), 'counting', 30)))",
    "import deepcr_zoo\ndeepcr_zoo.load('ACS-WFC-F606W-2-4')",
    "from deepcr_zoo.models.testvectors import example_image\nimage, mask = example_image(1)\n"
    "deepcr_zoo.plot.masks(image, {'truth': mask})",
)


@pytest.fixture(scope="module")
def outputs():
    """What each cell has shown, by the kind of the output."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return [[dict(output.get("data", {})) for output in cell.outputs] for cell in notebook.cells]


@pytest.mark.slow
def test_progress_is_a_bar_and_leaves_no_warning(outputs):
    kinds = {kind for output in outputs[0] for kind in output}
    assert "application/vnd.jupyter.widget-view+json" in kinds
    assert outputs[0][-1]["text/plain"] == "30"
    assert not any("ipywidgets" in str(output) for output in outputs[0])


@pytest.mark.slow
def test_a_model_is_a_table_and_masks_are_a_picture(outputs):
    (model,), (masks,) = outputs[1:]
    assert "<table>" in model["text/html"]
    assert masks["image/png"].startswith("iVBOR")
