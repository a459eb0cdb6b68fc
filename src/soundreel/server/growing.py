"""What is made of a sound once, in a thread of its own, and followed by whoever wants it while it grows."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from soundreel.errors import MediaError, SoundreelError

T = TypeVar("T")


class Growing(Generic[T]):
    """Grows from the moment it is made.

    Args:
        begin: what there is at first.
        make: calls what it is given with all that there is by then; returns the whole.
    """

    def __init__(self, begin: T, make: Callable[[Callable[[T], None]], T]) -> None:
        self._make = make
        self._grown = threading.Condition()
        self._found = begin
        self._is_whole = False
        self._failure: SoundreelError | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def once(self, is_enough: Callable[[T], bool]) -> tuple[T, bool]:
        """What there is, and whether that is all, as soon as it is enough, or all.

        Raises:
            SoundreelError: there will never be enough.
        """
        with self._grown:
            self._grown.wait_for(lambda: self._failure is not None or self._is_whole or is_enough(self._found))
            if self._failure is not None and not is_enough(self._found):
                raise self._failure
            return self._found, self._is_whole

    def _run(self) -> None:
        try:
            whole = self._make(self._grow)
        except SoundreelError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, others wait for it
            self._fail(MediaError(f"this sound cannot be read ({type(error).__name__})"))
        else:
            with self._grown:
                self._found, self._is_whole = whole, True
                self._grown.notify_all()

    def _grow(self, found: T) -> None:
        with self._grown:
            self._found = found
            self._grown.notify_all()

    def _fail(self, failure: SoundreelError) -> None:
        with self._grown:
            self._failure = failure
            self._grown.notify_all()
