"""Figures of `deepcr_zoo.plot` in the examples: saved as images, so that an example has a thumbnail."""

from sphinx_gallery.scrapers import figure_rst

from deepcr_zoo.exposures.figures import NotebookFigure


def save_last_figure(block, block_vars, gallery_conf):
    """Save the value of a block's last expression, if it is such a figure; return the directive that shows it."""
    shown = block_vars["example_globals"].get("___")
    if not isinstance(shown, NotebookFigure):
        return ""
    path = next(block_vars["image_path_iterator"])
    shown.savefig(path)
    block_vars["example_globals"]["___"] = None
    return figure_rst([path], gallery_conf["src_dir"])


def _get_sg_image_scraper():
    return save_last_figure
