"""What the server refuses, and how errors of a render are told: a code for programs, a sentence for people."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from soundreel.errors import Cancelled, EngineError, InputError, MediaError, SoundreelError, WeightsError
from soundreel.server.jobs import Failure

CODES: Final[tuple[tuple[type[SoundreelError], str], ...]] = (
    (InputError, "invalid_request"),
    (MediaError, "media_error"),
    (WeightsError, "weights_error"),
    (EngineError, "engine_error"),
    (Cancelled, "cancelled"),
)

INTERNAL: Final = "internal_error"


class RefusedError(SoundreelError):
    """A request that is answered with an error.

    Attributes:
        retry_after: seconds after which it may be asked again; None: that would not help.
    """

    def __init__(
        self, status: int, code: str, message: str, *, field: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message, field=field)
        self.status, self.code, self.retry_after = status, code, retry_after

    @property
    def failure(self) -> Failure:
        """As the answer tells it."""
        return Failure(code=self.code, message=str(self), field=self.field)


def not_found(what: str) -> RefusedError:
    """There is no such thing."""
    return RefusedError(404, "not_found", f"there is no {what}")


def too_much(message: str, *, retry_after: int = 30) -> RefusedError:
    """A limit is reached, and will not be for ever."""
    return RefusedError(429, "limit_reached", message, retry_after=retry_after)


def busy(message: str = "the queue is being written by another process: try again") -> RefusedError:
    """The queue cannot be written at this moment."""
    return RefusedError(503, "busy", message, retry_after=2)


def disk_full(message: str = "the server's disk is full: try again when there is room") -> RefusedError:
    """Nothing can be written any more."""
    return RefusedError(507, "disk_full", message, retry_after=60)


def failure_of(error: BaseException) -> Failure:
    """What is told of an error of a render; its notes tell of folders of this machine, and are left out."""
    code = next((code for kind, code in CODES if isinstance(error, kind)), INTERNAL)
    message = str(error) if isinstance(error, SoundreelError) else f"{type(error).__name__}: {error}"
    return Failure(code=code, message=message, field=getattr(error, "field", None))


_PATH: Final = re.compile(r"(?<![\w:/.~])(?:[A-Za-z]:)?(?:[\\/][^\\/\s'\"<>|,;:()]+)+[\\/]?")
"""An absolute path in a text: no part of an address, and no ratio as 1/16."""


class PathHider:
    """Takes the paths of this machine out of texts: what is left of each is its last name.

    Args:
        places: folders whose paths may have spaces in them.
    """

    def __init__(self, places: Iterable[Path]) -> None:
        known = {str(path) for place in places for path in (place.absolute(), place.resolve())} - {"/"}
        self._places = sorted(known, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text without them."""
        for place in self._places:
            text = re.sub(rf"{re.escape(place)}(?:/[^\s'\",;:()]*)?", lambda found: _last_name(found[0]), text)
        return _PATH.sub(lambda found: _last_name(found[0]), text)

    def failure(self, failure: Failure) -> Failure:
        """The failure without them."""
        return Failure(code=failure.code, message=self(failure.message), field=failure.field)


def _last_name(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]
