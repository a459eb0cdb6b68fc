"""How long a server that is asked may do nothing: what moves is waited for, however long it takes."""

import time
from typing import BinaryIO, Final

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Between two attempts; each pause is twice the one before, until something moves."""


class Patience:
    """Runs out after so many seconds in which nothing has moved; the first begin at once."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._farthest = seconds, 0
        self._end, self._pause = time.monotonic() + seconds, FIRST_PAUSE_SECONDS

    def move(self, position: int) -> None:
        """Bytes have gone through up to `position`; those of a file that is begun anew do not count twice."""
        if position > self._farthest:
            self._farthest = position
            self._end, self._pause = time.monotonic() + self._seconds, FIRST_PAUSE_SECONDS

    def pause(self) -> float:
        """Seconds to wait before the next attempt."""
        pause, self._pause = self._pause, min(LONGEST_PAUSE_SECONDS, 2 * self._pause)
        return pause

    @property
    def is_over(self) -> bool:
        """Whether nothing has moved for so long."""
        return time.monotonic() > self._end


class FileOnItsWay:
    """A file that is read to be sent: what is read moves. It has the methods of a file that httpx asks for."""

    def __init__(self, file: BinaryIO, patience: Patience) -> None:
        self._file, self._patience = file, patience
        self.seek, self.fileno = file.seek, file.fileno

    def read(self, size: int = -1) -> bytes:
        """The next bytes; those before them are with the system that sends them."""
        self._patience.move(self._file.tell())
        return self._file.read(size)
