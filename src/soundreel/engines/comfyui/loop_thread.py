"""Coroutines for code that has no event loop: one thread of their own runs them.

So a connection belongs to one thread. Two cannot share one with TLS: what a thread was woken for may be no message, but
a session ticket; OpenSSL then waits for what follows, and closing the socket in another thread does not end that wait.
"""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from typing import Any, Final, TypeVar

from soundreel.disk.durable import uninterrupted

SIGNAL_SECONDS: Final = 0.1
"""Delay with which Ctrl-C takes effect."""

T = TypeVar("T")


class LoopThread:
    """An event loop in a thread. It begins with `start`; after `stop` nothing of it is left."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._is_over = asyncio.Event()
        self._thread = threading.Thread(target=self._live, name="websocket", daemon=True)

    def start(self) -> None:
        """Begin to run coroutines."""
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine. It is cancelled where Ctrl-C ends the wait."""
        running: Future[T] | None = None
        try:
            while True:
                with uninterrupted():
                    running = running or asyncio.run_coroutine_threadsafe(work, self._loop)
                    if wait([running], timeout=SIGNAL_SECONDS).done:
                        return running.result()
        finally:
            with uninterrupted():
                if running is not None:
                    running.cancel()

    def stop(self) -> None:
        """Cancel what still runs, and end the thread."""
        with uninterrupted():
            self._loop.call_soon_threadsafe(self._is_over.set)
            self._thread.join()

    def _live(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._is_over.wait())
