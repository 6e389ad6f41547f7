"""The class of the deepCR package, so that an existing script only changes its import.

from deepcr_zoo import deepCR        # was: from deepCR import deepCR
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import AbsentAttributeError, CompatibilityWarning, DeviceError, UsageError, warn
from deepcr_zoo.models.imagecleaning import Filler, filler, loaded
from deepcr_zoo.models.images import read_contents
from deepcr_zoo.models.model import WHOLE_FRAME, InpaintModel, MaskModel, select_device
from deepcr_zoo.models.upstream import load_network
from deepcr_zoo.zoo.cards import check_threshold
from deepcr_zoo.zoo.runfolders import is_run_folder


class deepCR:  # noqa: N801 - upstream's name
    """A mask model and an inpainter behind upstream's interface (Zhang & Bloom 2020; deepCR 0.3.1).

    Differences from upstream: the registry resolves names such as ``ACS-WFC-F606W-2-32``, each network gets its own
    input scale, tiles leave no seams, and a NaN blanks no other pixels.

    Parameters
    ----------
    mask : str, path or MaskModel
        Name of a mask model or the folder of a run, a loaded one, or the path of a ``.pth`` file that deepCR has trained.
        Such a file has no card: its network takes pixel values unscaled, as in deepCR, and a warning says so, with the
        command that makes it a model (``deepcr-zoo import``).
    inpaint : str, path or InpaintModel, optional
        The same for an inpainting model (default: the 5x5 masked median).
    device : {"CPU", "GPU"}
        ``GPU`` means CUDA or MPS, and is an error where there is none.
    hidden : int
        Ignored: the registry or the ``.pth`` file fixes the architecture.

    Attributes
    ----------
    scale : float
        Number that the mask network divides pixel values by.
    norm : bool
        Whether the mask network standardises the whole frame.

    Raises
    ------
    DeepcrZooError
        As for `deepcr_zoo.load`, and if a ``.pth`` file holds no network of deepCR.
    """

    def __init__(
        self,
        mask: str | os.PathLike[str] | MaskModel = "ACS-WFC",
        inpaint: str | os.PathLike[str] | InpaintModel | None = None,
        device: str = "CPU",
        hidden: int = 32,
    ) -> None:
        target = _device(device)
        self.mask_model: MaskModel = _mask_model(mask, target)
        self._names_inpainter = inpaint is not None
        self._fill: Filler = filler(_inpainter(inpaint, target), self.mask_model.card.input.pixel_unit, target)

    @property
    def scale(self) -> float:
        return self.mask_model.card.input.scale

    @property
    def norm(self) -> bool:
        return self.mask_model.card.input.normalisation == "frame-standardise"

    def __getattr__(self, name: str) -> NoReturn:
        instead = _INSTEAD.get(name, "expected one of clean, inpaint, mask_model, scale, norm")
        raise AbsentAttributeError(f"{type(self).__name__!r} object has no attribute {name!r}: {instead}")

    def clean(
        self,
        img0: Any,
        threshold: float = 0.5,
        inpaint: bool | None = None,
        binary: bool = True,
        segment: bool = True,
        patch: int = 1024,
        n_jobs: int = 1,
    ) -> NDArray[Any] | tuple[NDArray[Any], NDArray[np.float32]]:
        """Mask the cosmic rays of an image and, optionally, repaint them.

        Parameters
        ----------
        img0 : array_like, shape (H, W)
            Pixel values in the unit of the model's card, in any container that `deepcr_zoo.clean` takes.
        threshold : float
            Probability above which a pixel is masked: 0.5 as upstream, not the card's threshold.
        inpaint : bool, optional
            Whether to return the cleaned image too. None means yes if an inpainter was named, with a warning, so that the
            paper's example, which unpacks two values, works; deepCR 0.3.1 returns only the mask unless this is True.
        binary : bool
            Return a mask, not probabilities.
        segment : bool
            Work in tiles of `patch` pixels, which saves memory and does not change the result.
        patch : int
            Side of a tile in pixels.
        n_jobs : int
            Type of the mask alone, as in deepCR: torch already uses all cores.

        Returns
        -------
        mask : ndarray of float32 or bool
            0 and 1 in float32 or, if `n_jobs` is not 1, where deepCR returns integers, a bool; or probabilities.
        cleaned : ndarray of float32
            The repainted image, only when inpainting.
        """
        contents = read_contents(img0)
        probability = self.mask_model.predict(contents, tile=patch if segment else WHOLE_FRAME)
        cosmic_rays = probability > check_threshold(threshold)
        mask = probability if not binary else cosmic_rays.astype(np.float32) if n_jobs == 1 else cosmic_rays
        if inpaint is None and self._names_inpainter:
            warn(_TWO_VALUES, CompatibilityWarning)
        if not (self._names_inpainter if inpaint is None else inpaint):
            return mask
        return mask, self.inpaint(contents, cosmic_rays)

    def inpaint(self, img0: Any, mask: Any) -> NDArray[np.float32]:
        """Repaint the masked pixels of an image, in the unit of the mask model's card."""
        return self._fill(img0, mask).values


_TWO_VALUES = (
    "clean returns (mask, cleaned) since an inpainter was named, where deepCR 0.3.1 returns the mask alone: "
    "say inpaint=True for both or inpaint=False for the mask"
)
_INSTEAD = {
    "maskNet": "mask_model.predict(image) gives its probabilities, and mask_model.logits(image) its log-odds",
    "inpaintNet": "inpaint(image, mask) applies it, and deepcr_zoo.load('inpaint/NAME') is the network with its card",
}


def _mask_model(mask: str | os.PathLike[str] | MaskModel | None, device: str) -> MaskModel:
    if mask is None:
        raise UsageError("mask=None: expected the name of a mask model, such as 'ACS-WFC', or the path of a .pth file")
    if isinstance(mask, str | os.PathLike) and _is_file(mask):
        found = load_network(Path(mask), "mask", device)
        assert isinstance(found, MaskModel)  # its task
        return found
    return loaded(mask, MaskModel, device)


def _inpainter(inpaint: str | os.PathLike[str] | InpaintModel | None, device: str) -> str | os.PathLike[str] | InpaintModel:
    if inpaint is None:
        return "medmask"
    if isinstance(inpaint, str | os.PathLike) and _is_file(inpaint):
        found = load_network(Path(inpaint), "inpaint", device)
        assert isinstance(found, InpaintModel)  # its task
        return found
    return inpaint


def _is_file(given: str | os.PathLike[str]) -> bool:
    """True for what names a file of a network, which may be missing, and not a model or the folder of a run."""
    return os.fspath(given).endswith((".pth", ".pt")) or (isinstance(given, os.PathLike) and not is_run_folder(given))


def _device(name: str) -> str:
    if name.upper() == "CPU":
        return "cpu"
    if name.upper() != "GPU":
        raise DeviceError(f"device {name!r}: expected 'CPU' or 'GPU'")
    if select_device("auto") == "cpu":
        raise DeviceError("device 'GPU': no CUDA or MPS device was found; use device='CPU'")
    return "auto"
