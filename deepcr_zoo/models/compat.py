"""The class of the deepCR package, so that an existing script only changes its import.

from deepcr_zoo import deepCR        # was: from deepCR import deepCR
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import DeviceError, UsageError
from deepcr_zoo.models.imagecleaning import Filler, filler, loaded
from deepcr_zoo.models.model import WHOLE_FRAME, MaskModel, select_device
from deepcr_zoo.zoo.cards import check_threshold


class deepCR:  # noqa: N801 - upstream's name
    """A mask model and an inpainter behind upstream's interface (Zhang & Bloom 2020; deepCR 0.3.1).

    Differences from upstream: the registry resolves names such as ``ACS-WFC-F606W-2-32``, each network gets its own
    input scale, tiles leave no seams, and a NaN blanks no other pixels.

    Parameters
    ----------
    mask : str
        Name of a mask model. The path of a ``.pth`` file is refused.
    inpaint : str, optional
        Name of an inpainting model (default: the 5x5 masked median).
    device : {"CPU", "GPU"}
        ``GPU`` means CUDA or MPS, and is an error where there is none.
    hidden : int
        Ignored, as upstream ignores it for named models: the registry fixes the architecture.

    Raises
    ------
    DeepcrZooError
        As for `deepcr_zoo.load`.
    """

    def __init__(self, mask: str = "ACS-WFC", inpaint: str | None = None, device: str = "CPU", hidden: int = 32) -> None:
        if mask.endswith(".pth"):
            raise UsageError(f"mask={mask!r}: expected a model name: .pth files are not loaded, since they can run code")
        target = _device(device)
        self.mask_model: MaskModel = loaded(mask, MaskModel, target)
        self._names_inpainter = inpaint is not None
        self._fill: Filler = filler(inpaint or "medmask", self.mask_model.card.input.unit, target)

    def clean(
        self,
        img0: Any,
        threshold: float = 0.5,
        inpaint: bool | None = None,
        binary: bool = True,
        segment: bool = True,
        patch: int = 1024,
        n_jobs: int = 1,
    ) -> NDArray[np.float32] | tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mask the cosmic rays of an image and, optionally, repaint them.

        Parameters
        ----------
        img0 : array_like, shape (H, W)
            Pixel values in the unit of the model's card.
        threshold : float
            Probability above which a pixel is masked: 0.5 as upstream, not the card's threshold.
        inpaint : bool, optional
            Whether to return the cleaned image too. None means yes if an inpainter was named, so that the paper's
            example, which unpacks two values, works; deepCR 0.3.1 returns only the mask unless this is True.
        binary : bool
            Return the mask as 0 and 1, not as a probability.
        segment : bool
            Work in tiles of `patch` pixels, which saves memory and does not change the result.
        patch : int
            Side of a tile in pixels.
        n_jobs : int
            Ignored: torch already uses all cores.

        Returns
        -------
        mask : ndarray of float32
            0 and 1, or probabilities, as upstream returns them.
        cleaned : ndarray of float32
            The repainted image, only when inpainting.
        """
        probability = self.mask_model.predict(img0, tile=patch if segment else WHOLE_FRAME)
        cosmic_rays = probability > check_threshold(threshold)
        mask = cosmic_rays.astype(np.float32) if binary else probability
        if not (self._names_inpainter if inpaint is None else inpaint):
            return mask
        return mask, self.inpaint(img0, cosmic_rays)

    def inpaint(self, img0: Any, mask: Any) -> NDArray[np.float32]:
        """Repaint the masked pixels of an image, in the unit of the mask model's card."""
        return self._fill(img0, mask)


def _device(name: str) -> str:
    if name.upper() == "CPU":
        return "cpu"
    if name.upper() != "GPU":
        raise DeviceError(f"device {name!r}: expected 'CPU' or 'GPU'")
    if select_device("auto").type == "cpu":
        raise DeviceError("device 'GPU': no CUDA or MPS device was found; use device='CPU'")
    return "auto"
