"""Settings of the guide, which ``make docs`` builds from the pages of the whole repository: their links work in both."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]

from deepcr_zoo import __version__

project = "deepcr-zoo"
author = "deepcr-zoo contributors"
copyright = "deepcr-zoo contributors"
version = release = __version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx_gallery.gen_gallery",
]
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "benchmarks/README.md",
    "cards/README.md",
    "recipes/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
]
exclude_patterns = [".*", "build", "demo", "runs", "docs/examples", "docs/slurm"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

html_theme = "pydata_sphinx_theme"
html_title = "deepcr-zoo"
html_copy_source = False
html_extra_path = ["start"]  # index.html at the top leads to the guide
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}

myst_heading_anchors = 4
suppress_warnings = [
    "toc.not_included"
]  # decisions are listed by their README; tests/test_guide.py looks for forgotten pages

numpydoc_show_class_members = False
autodoc_typehints = "none"  # types stand in the docstrings
autodoc_member_order = "bysource"
intersphinx_mapping = {}  # the build needs no connection

sphinx_gallery_conf = {
    "examples_dirs": "docs/examples",
    "gallery_dirs": "docs/gallery",
    "filename_pattern": "plot_",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "ignore_repr_types": "NotebookFigure",
    "image_scrapers": ("matplotlib", "examplefigures"),
    "show_memory": False,
    "min_reported_time": 1000,
    "show_signature": False,
    "within_subsection_order": "FileNameSortKey",
}
