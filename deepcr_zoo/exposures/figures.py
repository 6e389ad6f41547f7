"""Figures that notebooks show by themselves (extra ``plot``)."""

from __future__ import annotations

import base64

from matplotlib.figure import Figure

from deepcr_zoo.exposures.pictures import DPI, png


class NotebookFigure(Figure):
    """A matplotlib figure of its own, outside of pyplot: nothing needs to be closed."""

    def _repr_png_(self) -> bytes:
        return png(self, DPI)

    def _repr_html_(self) -> str:
        return f'<img src="data:image/png;base64,{base64.b64encode(self._repr_png_()).decode()}">'
