"""Figures that notebooks show by themselves (extra ``plot``)."""

from __future__ import annotations

from matplotlib.figure import Figure

from deepcr_zoo.exposures.pictures import DPI, png
from deepcr_zoo.models.notebooks import html_image


class NotebookFigure(Figure):
    """A matplotlib figure of its own, outside of pyplot: nothing needs to be closed."""

    def _repr_png_(self) -> bytes:
        return png(self, DPI)

    def _repr_html_(self) -> str:
        return html_image(self._repr_png_(), "exposure and masks")
