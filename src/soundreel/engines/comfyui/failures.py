"""What can go wrong between a client and its server."""

from soundreel.errors import EngineError


class UnreachableError(EngineError):
    """The server does not answer, or something answers that is not it, such as a gateway; it may answer later."""


class NoServerError(UnreachableError):
    """Nothing listens at the address."""


class BusyError(UnreachableError):
    """The server accepted the request, but has not answered in time."""


class FileGoneError(EngineError):
    """The server names a file that it no longer has."""
