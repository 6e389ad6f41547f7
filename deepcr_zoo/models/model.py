"""Models for use: a name becomes an object that masks cosmic rays or repaints pixels."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import DeviceError, ImageWarning, InvalidWeightsError, ModelWarning, UsageError, warn
from deepcr_zoo.machine import may_have_gpu
from deepcr_zoo.models import weights
from deepcr_zoo.models.computations import computing
from deepcr_zoo.models.containers import Repainted
from deepcr_zoo.models.engines import Block, Engine, select_engine
from deepcr_zoo.models.images import ImageStack, hidden_cores, read_image, read_mask
from deepcr_zoo.models.interpolation import interpolate
from deepcr_zoo.models.networkinput import NoiseScaling, estimated_channels, hidden_channels, image_channel, scaling_of
from deepcr_zoo.models.notebooks import html_table
from deepcr_zoo.models.skynoise import FrameNoise
from deepcr_zoo.models.tiling import Span, plan_windows
from deepcr_zoo.progress import logger
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.cards import Card, check_threshold, read_card
from deepcr_zoo.zoo.records import SkyRange, sky_range, trained_sky_range
from deepcr_zoo.zoo.registry import WEIGHTS_FILE, Architecture, ResolvedModel
from deepcr_zoo.zoo.rendering import camera_text, input_text, output_text
from deepcr_zoo.zoo.resolving import find_model

if TYPE_CHECKING:  # torch is slow to load, and OpenVINO does without
    import torch

CPU = "cpu"
WHOLE_FRAME = 0  # the tile side for no tiles

log = logger("deepcr_zoo")


class Model:
    """Base of mask and inpainting models; `load` makes one.

    Instances hold no state between calls and can be used from several threads at once.

    Attributes
    ----------
    reference : str
        ``task/name@version``.
    sha256 : str
        Hash of the weights file.
    card : Card
        Input units, normalisation, output and provenance of the model.
    device : torch.device
    engine : str
        ``torch``, ``openvino`` or ``openvino-bf16``.
    sky_range : SkyRange or None
        Sky levels at which the model does well, as measured or as in its training; None if unknown. Images outside of it
        cause an `ImageWarning`.
    """

    def __init__(self, reference: str, sha256: str, card: Card, engine: Engine, sky_range: SkyRange | None = None) -> None:
        self.reference = reference
        self.sha256 = sha256
        self.card = card
        self.sky_range = sky_range
        self.engine = engine.name
        self._engine = engine

    @property
    def device(self) -> torch.device:
        """Device that computes the network."""
        import torch

        return torch.device(self._engine.device)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.reference} on {self._engine.device} with {self.engine}>"

    def _repr_html_(self) -> str:
        """Return what notebooks show: the most important lines of the card."""
        card = self.card
        rows = [
            ("made for", camera_text(card)),
            ("input", input_text(card)),
            *([] if self.sky_range is None else [("sky level", f"{self.sky_range}, {self.sky_range.source}")]),
            ("output", output_text(card)),
            ("runs on", f"{self._engine.device}, {self.engine}"),
            *(("limit", limit) for limit in card.limits),
            *(("cite", f"{citation.text}, https://doi.org/{citation.doi}") for citation in card.citation),
        ]
        return html_table(f"{self.reference}: {card.identity.title}", rows)

    def _warn_of_sky(self, levels: Iterable[float]) -> None:
        """Warn once if the sky level of an image is out of the model's range."""
        known = self.sky_range
        outside = None if known is None else next((level for level in levels if not known.holds(level)), None)
        if known is not None and outside is not None:
            warn(known.caution(self.reference, outside), ImageWarning)

    def _windows(
        self, shape: tuple[int, ...], channels: Callable[[slice, slice], Block | None], tile: int | None
    ) -> Iterator[tuple[slice, slice, Block]]:
        """Apply the network to a frame of this shape (H, W), window by window.

        `channels` returns the network's input for some rows and columns, or None to skip them. `tile` is a side in
        pixels, `WHOLE_FRAME`, or None for the engine's own. Yields rows, columns and output, shape (outputs, h, w), of parts
        that cover the frame once.
        """
        side = _tile_side(tile, self._engine.tile, shape)
        pending: deque[tuple[Span, Span]] = deque()  # the engine may take some windows ahead

        def blocks() -> Iterator[Block]:
            for rows, columns in plan_windows(shape[0], shape[1], side, self.card.input.halo, self.card.input.multiple):
                block = channels(slice(rows.start, rows.stop), slice(columns.start, columns.stop))
                if block is not None:
                    pending.append((rows, columns))
                    yield _extended(block, rows, columns)

        for output in self._engine.run(blocks()):
            rows, columns = pending.popleft()
            yield rows.keep, columns.keep, self._finite(output[:, rows.keep_inside, columns.keep_inside])

    def _noise_of_each(self, noise: Sequence[FrameNoise] | None, images: int) -> Sequence[FrameNoise | None]:
        """Return the sky and noise that a caller has measured for each image, None where none are."""
        if noise is None:
            return [None] * images
        if not self.card.input.by_noise or len(noise) != images:
            raise UsageError(
                f"sky and noise of {len(noise)} images are given, and {images} with the normalisation "
                f"{self.card.input.normalisation}: expected one for each image of a model with the normalisation noise"
            )
        return noise

    def _finite(self, values: Block) -> Block:
        """Return these values of the network if they are numbers: NaN exceeds no threshold, and would mean nothing found."""
        if not np.isfinite(values).all():
            raise InvalidWeightsError(
                f"{self.reference}: the network gives values that are not finite, with {self.engine} on "
                f"{self._engine.device}: use another model, or tell its authors"
            )
        return values


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / (1 + exp(-logit)), computed in place; 0 where exp overflows."""
    with computing():
        np.exp(np.negative(logits, out=logits), out=logits)
        logits += 1
        np.reciprocal(logits, out=logits)
    return logits


class MaskModel(Model):
    """A network that finds cosmic rays."""

    @property
    def threshold(self) -> float:
        """Probability above which `mask` marks a pixel by default (from the card)."""
        threshold = self.card.output.threshold
        assert threshold is not None  # the card's schema requires one of a mask model
        return threshold

    def logits(
        self, image: Any, *, tile: int | None = None, noise: Sequence[FrameNoise] | None = None
    ) -> NDArray[np.float32]:
        """Return the log-odds of being a cosmic ray, which rank pixels even where the probability rounds to 0 or 1.

        Parameters
        ----------
        image : array_like, shape (H, W) or (N, H, W)
            Pixel values in the card's unit, in any container that `deepcr_zoo.clean` takes. A model with the normalisation
            frame-standardise or noise needs the whole frame, never a crop.
        tile : int, optional
            Side of a tile in pixels, 0 for the whole frame at once. It affects memory and speed, not the result.
        noise : sequence, optional
            For each image, sky and noise of the exposure that it is a part of, from
            ``deepcr_zoo.models.skynoise.frame_noise(exposure)``, in the image's unit. Only for models with the normalisation
            noise (default: measured in each image).

        Returns
        -------
        ndarray of float32
            Same shape as the image; minus infinity where the image is NaN, infinite or masked.

        Raises
        ------
        InvalidImageError
            If the shape, type or unit of the image cannot be used.
        InvalidWeightsError
            If the network gives values that are not finite.
        """
        stack = read_image(image, self.card.input.pixel_unit)
        return self._logits(stack, tile, noise).reshape(stack.shape)

    def _logits(self, stack: ImageStack, tile: int | None, noise: Sequence[FrameNoise] | None = None) -> NDArray[np.float32]:
        """Return log-odds, shape (N, H, W)."""
        self._warn_of_sky(stack.sky_levels())
        logits = np.empty(stack.pixels.shape, dtype=np.float32)
        measured = self._noise_of_each(noise, len(logits))
        for (pixels, valid), known, out in zip(stack.frames_as_found(), measured, logits, strict=True):
            network_input = partial(image_channel, pixels, scaling_of(self.card, pixels, valid, known))
            for rows, columns, output in self._windows(pixels.shape, network_input, tile):
                out[rows, columns] = output[0]
            if valid is not None:
                out[~valid] = -np.inf
        return logits

    def predict(
        self, image: Any, *, tile: int | None = None, noise: Sequence[FrameNoise] | None = None
    ) -> NDArray[np.float32]:
        """Return the probability of being a cosmic ray.

        Parameters are those of `logits`.

        Returns
        -------
        ndarray of float32
            Same shape as the image, in [0, 1]; 0 where the image is NaN, infinite or masked.
        """
        stack = read_image(image, self.card.input.pixel_unit)
        return self._probability(stack, tile, noise).reshape(stack.shape)

    def _probability(
        self, stack: ImageStack, tile: int | None, noise: Sequence[FrameNoise] | None = None
    ) -> NDArray[np.float32]:
        """Return probabilities, shape (N, H, W)."""
        return probabilities(self._logits(stack, tile, noise))

    def mask(
        self,
        image: Any,
        threshold: float | None = None,
        *,
        tile: int | None = None,
        noise: Sequence[FrameNoise] | None = None,
    ) -> NDArray[np.bool_]:
        """Return the cosmic-ray mask: True where the probability exceeds the threshold.

        Masked pixels are never marked. A network sees them where their values continue a star around them, else values of
        their neighbours. An `ImageWarning` says where the mask crowds around them.

        Parameters
        ----------
        image : array_like, shape (H, W) or (N, H, W)
            As for `logits`.
        threshold : float, optional
            In [0, 1] (default: the card's).
        tile, noise : optional
            As for `logits`.

        Raises
        ------
        UsageError
            If the threshold is not a probability.
        """
        limit = check_threshold(self.threshold if threshold is None else threshold)
        stack = read_image(image, self.card.input.pixel_unit)
        masks = self._probability(stack, tile, noise) > limit
        for mask, valid in zip(masks, () if stack.valid is None else stack.valid, strict=False):
            if problem := hidden_cores(mask, valid):
                warn(problem, ImageWarning)
        return masks.reshape(stack.shape)


class InpaintModel(Model):
    """A network that repaints masked pixels."""

    def fill(
        self, image: Any, mask: Any, *, tile: int | None = None, noise: Sequence[FrameNoise] | None = None
    ) -> NDArray[np.float32]:
        """Replace the masked pixels and no others.

        Parameters
        ----------
        image : array_like, shape (H, W) or (N, H, W)
            Pixel values in the card's unit, in any container that `deepcr_zoo.clean` takes.
        mask : array_like of bool, or of 0 and 1
            The inpainting mask, same shape as the image. It should cover the cosmic rays fully: the rest of one beside
            the mask brightens the result.
        tile : int, optional
            Side of a tile in pixels, 0 for the whole frame at once. It affects memory and speed, not the result.
        noise : sequence, optional
            As for `MaskModel.logits`.

        Returns
        -------
        ndarray of float32
            The image with new values where `mask` is set, in the card's unit. NaN outside the mask stays NaN.

        Raises
        ------
        InvalidImageError
            If the image or the mask cannot be used.
        InvalidWeightsError
            If the network gives values that are not finite.
        """
        return self.repaint(image, mask, tile=tile, noise=noise).values

    def repaint(
        self, image: Any, mask: Any, *, tile: int | None = None, noise: Sequence[FrameNoise] | None = None
    ) -> Repainted:
        """Replace the masked pixels and no others, and say how uncertain the new values are if the network predicts it.

        Parameters and errors are those of `fill`.
        """
        stack = read_image(image, self.card.input.pixel_unit)
        masks = read_mask(mask, stack.shape)
        self._warn_of_sky(stack.sky_levels(masks))
        filled = stack.pixels.copy()
        unsure = np.full(filled.shape, np.nan, np.float32) if self.card.output.uncertainty else None
        measured = self._noise_of_each(noise, len(filled))
        for number, ((pixels, valid), masked, known) in enumerate(zip(stack.frames(masks), masks, measured, strict=True)):
            if not masked.any():
                continue  # neither noise nor estimate is needed
            scaling = scaling_of(self.card, pixels, valid, known)
            seen = interpolate(pixels, masked, scaling) if isinstance(scaling, NoiseScaling) else None
            channels = (
                partial(hidden_channels, pixels, masked, scaling)
                if seen is None
                else partial(estimated_channels, seen, masked)
            )
            for rows, columns, output in self._windows(pixels.shape, channels, tile):
                wanted = masked[rows, columns]
                value = output[0] if seen is None else seen[rows, columns] + output[0]
                filled[number, rows, columns][wanted] = self._finite(scaling.undo(value, rows, columns)[wanted])
                if unsure is not None and isinstance(scaling, NoiseScaling):  # as the card's schema requires
                    deviation = scaling.deviation(value, output[1], rows, columns)
                    unsure[number, rows, columns][wanted] = self._finite(deviation[wanted])
        return Repainted(filled.reshape(stack.shape), None if unsure is None else unsure.reshape(stack.shape))


def load(
    name: str | os.PathLike[str],
    device: str | torch.device = "auto",
    *,
    engine: str = "auto",
    source: sources.Source | None = None,
    mirror: str | os.PathLike[str] | None = None,
) -> MaskModel | InpaintModel:
    """Load a model by name, with its bytes verified.

    Parameters
    ----------
    name : str or path
        ``[mask/|inpaint/]NAME[@VERSION]``; without a version the registry's default, which is logged. Or the folder of a
        finished run, or ``hf:ORG/TASK-NAME@vVERSION``, a version in a repository on the Hub that no registry lists: its
        first use asks the Hub and fixes the bytes, and each use warns.
    device : str or torch.device
        ``auto`` (CUDA, else MPS, else the CPU) or a torch device such as ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    engine : {"auto", "torch", "openvino", "openvino-bf16"}
        What computes the network. OpenVINO (extra ``cpu``) runs on a CPU and agrees with torch to 1e-5; ``auto`` takes
        it where it is installed. ``openvino-bf16`` is quicker and less exact, on CPUs with AMX. OpenVINO takes as many
        threads as torch where that is loaded, else ``OMP_NUM_THREADS``, else one for each processor.
    source : {"cache", "mirror", "seed", "hub"}, optional
        Take the bytes from this source alone.
    mirror : path or file:// address, optional
        Mirror directory (default: ``DEEPCR_ZOO_MIRROR``).

    Returns
    -------
    MaskModel or InpaintModel

    Raises
    ------
    InvalidNameError, UnknownModelError, RunError
        If no model has this name, or the folder holds no finished run.
    SourceError, IntegrityError
        If no source has the bytes, or they differ from those locked in the registry.
    InvalidWeightsError
        If the weights do not fit the architecture or the card's input scale.
    DeviceError
        If the device does not exist on this machine.
    UsageError, MissingExtraError
        If the engine does not exist, does not run on the device, or is not installed.
    """
    return load_resolved(find_model(name), device, engine=engine, source=source, mirror=mirror)


def load_resolved(
    model: ResolvedModel,
    device: str | torch.device = "auto",
    *,
    engine: str = "auto",
    source: sources.Source | None = None,
    mirror: str | os.PathLike[str] | None = None,
) -> MaskModel | InpaintModel:
    """Load a model whose name is resolved already; see `load`."""
    architecture = model.locked.architecture
    select_engine(engine, select_device(device))  # wrong usage is an error before anything is fetched
    card = read_card(model)
    file = sources.fetch(model, WEIGHTS_FILE, source=source, mirror=mirror)
    loaded = load_files(
        file.data, card, architecture, model.reference, device, engine=engine, sky_range=sky_range(model, card)
    )
    facts = (f"bytes from the {file.source}", f"engine {loaded.engine} on {loaded._engine.device}")
    log.info("%s", "; ".join([model.reference, *model.notes, *facts]))
    for caution in model.cautions:
        warn(caution, ModelWarning)
    return loaded


def load_files(
    data: bytes,
    card: Card,
    architecture: Architecture,
    reference: str,
    device: str | torch.device = "auto",
    *,
    engine: str = "auto",
    sky_range: SkyRange | None = None,
) -> MaskModel | InpaintModel:
    """Make a model from the bytes of a weights file that no registry has locked, such as that of a run; see `load`.

    Errors, products and results call the model by `reference`. The range of sky levels is the card's if none is given.
    """
    target = select_device(device)
    make_engine = select_engine(engine, target)
    with computing():
        network = weights.plain_network(data, architecture, card, reference)
    built = make_engine(network, target)
    kind = MaskModel if card.identity.task == "mask" else InpaintModel
    return kind(reference, hashlib.sha256(data).hexdigest(), card, built, sky_range or trained_sky_range(card))


def select_device(name: str | torch.device) -> str:
    """Return the name of the device, or raise `DeviceError`: there is no silent fallback to the CPU."""
    chosen = str(name).lower()
    if chosen == CPU or (name == "auto" and not may_have_gpu()):
        return CPU
    import torch

    present = [CPU]
    if torch.cuda.is_available():
        present = ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count())), *present]
    elif torch.backends.mps.is_available():
        present = ["mps", *present]
    if name == "auto":
        return present[0]
    if chosen not in present:
        raise DeviceError(f"device {str(name)!r} does not exist here: expected auto or one of {', '.join(present)}")
    return chosen


def _extended(block: Block, rows: Span, columns: Span) -> Block:
    """Pad a block to the size of its window, which may reach beyond the frame."""
    missing = (rows.stop - rows.start - block.shape[1], columns.stop - columns.start - block.shape[2])
    return np.pad(block, ((0, 0), (0, missing[0]), (0, missing[1])), mode="edge") if any(missing) else block


def _tile_side(tile: int | None, best: int, shape: tuple[int, ...]) -> int:
    if tile is None:
        return best
    if tile < 0:
        raise UsageError(f"tile is {tile}: expected a positive number of pixels, or 0 for the whole frame")
    return max(shape) if tile == WHOLE_FRAME else tile
