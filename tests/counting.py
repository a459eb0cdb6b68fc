"""A check that counts how often it is asked, and says stop in the end."""

from soundreel.errors import Cancelled


class Counting:
    """Called in loops; raises `Cancelled` when it is called for the `stop_at`-th time."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.calls, self._stop_at = 0, stop_at

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == self._stop_at:
            raise Cancelled("enough")
