"""Why a film is not read.

    ImageError
    |-- InvalidDicom       the file is broken: not DICOM, truncated, an attribute missing or contradictory
    |-- UnsupportedImage   the file is sound, but not for this pipeline or without a decoder here
    `-- RegionNotFound     nothing is wrong with the film: the shared memory it was said to lie in is not here

Each class carries the code under which Triton sends it; `wire` is the text that travels, prefix first.
"""

from typing import ClassVar


class ImageError(Exception):
    """A film that cannot be read, with the reason and, where there is one, the remedy."""

    triton_code: ClassVar[str]

    @property
    def wire(self) -> str:
        """The message with the class name in front, as clients tell the causes apart."""
        return f"{type(self).__name__}: {self}"


class InvalidDicom(ImageError):
    """The file is not DICOM, is cut short, or lacks or contradicts an attribute a film needs."""

    triton_code = "INVALID_ARG"


class UnsupportedImage(ImageError):
    """A sound file that this pipeline does not read: syntax, colour, modality, view, body part, frames, size."""

    triton_code = "UNSUPPORTED"


class RegionNotFound(ImageError):
    """The region that a request names is not on this machine; the client sends the film itself instead."""

    triton_code = "NOT_FOUND"


BY_NAME: dict[str, type[ImageError]] = {cls.__name__: cls for cls in (InvalidDicom, UnsupportedImage)}
