"""Every error and warning that a user can cause, one class per kind of mistake.

Each message is one sentence (or a short list) that says what was wrong, where, what was expected and the way out.
"""


class DeepcrZooError(Exception):
    """Base of all errors that the command line shows without a traceback."""

    exit_code = 1


class UsageError(DeepcrZooError):
    """The arguments contradict each other or are outside what the call accepts."""

    exit_code = 2


class InvalidNameError(DeepcrZooError):
    """A text does not follow the grammar ``[REGISTRY:][mask/|inpaint/]NAME[@VERSION]``."""


class UnknownModelError(DeepcrZooError):
    """A well-formed name that no registry entry, alias or version answers to."""


class InvalidDocumentError(DeepcrZooError):
    """A YAML file (registry entry, card) that breaks its schema."""


class IntegrityError(DeepcrZooError):
    """Bytes that differ from what the registry has locked."""


class SourceError(DeepcrZooError):
    """No source could supply the bytes of a model."""


class HubError(SourceError):
    """The Hub refused or does not have what was asked for."""


class HubUnreachableError(SourceError):
    """The Hub did not answer, or the client is in offline mode."""


class HubConflictError(HubError):
    """Somebody else has changed a repository of the Hub in between."""


class GateError(DeepcrZooError):
    """A model that must not be published, because a gate did not pass."""


class PublishError(DeepcrZooError):
    """A model that cannot be published as it is, or where it should go."""


class UpdateError(DeepcrZooError):
    """Registry files that would alter what a name means, or that are incomplete."""


class InvalidWeightsError(DeepcrZooError):
    """Weights that do not fit the architecture or the input scale that the registry and the card state."""


class DeviceError(UsageError):
    """A device that does not exist on this machine."""


class InvalidImageError(DeepcrZooError):
    """An image or a mask of a shape, type or unit that cannot be used."""


class InvalidFileError(DeepcrZooError):
    """A FITS file that is damaged, or that holds nothing that can be cleaned."""


class NotAnExposureError(InvalidFileError):
    """A sound FITS file that is no single exposure: a drizzled image, a table, a product of our own."""


class OutputError(DeepcrZooError):
    """A product that cannot be written, or that would replace another."""


class NoModelError(DeepcrZooError):
    """The registry has no model, or no operating point, for what was asked."""


class MissingExtraError(DeepcrZooError):
    """An optional dependency that is not installed."""


class ConversionError(DeepcrZooError):
    """An upstream file that is missing or is not what its card says it is."""


class DrizzleError(DeepcrZooError):
    """Drizzlepac could not label a visit."""


class InterruptedWorkError(DeepcrZooError):
    """Work that came to no end, through no fault of its input: it is done when the same command runs again."""


class StoppedError(InterruptedWorkError):
    """Work that somebody has stopped, and that was saved."""

    exit_code = 130


class ClusterError(DeepcrZooError):
    """A Dask cluster that cannot be reached, is gone, or has workers that cannot do the work."""


class MissingDataError(DeepcrZooError):
    """Exposures that a recipe asks for and that nobody has supplied."""


class ArchiveError(DeepcrZooError):
    """The archive does not have what was asked for, or has something else."""


class ArchiveUnreachableError(ArchiveError):
    """The archive did not answer, or broke off."""


class ArchiveBusyError(ArchiveUnreachableError):
    """The archive asks to be left alone for a while.

    Attributes
    ----------
    wait_s : float or None
        How long, if it told.
    """

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class DataError(DeepcrZooError):
    """Exposures from which no sound training set can be made."""


class DatasetError(DeepcrZooError):
    """A training set that is incomplete, or differs from what its manifest says."""


class TrainingError(DeepcrZooError):
    """Training that cannot start, or cannot go on."""


class RunError(DeepcrZooError):
    """A run folder that is incomplete, damaged or of another recipe."""


class NotMeasuredError(DeepcrZooError):
    """A figure that is asked for and that nobody has measured, or could."""


class ModelWarning(UserWarning):
    """The registry attaches a caution to this version of a model."""


class ImageWarning(UserWarning):
    """The image can be used, but the result is less than the user may expect."""


class SourceWarning(UserWarning):
    """A local copy was damaged or could not be kept; the result is not affected."""
