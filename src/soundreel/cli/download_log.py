"""How far a download is, for logs: the hub's client shows a bar on a terminal, and nothing elsewhere."""

import io
from typing import Any

from huggingface_hub.utils.tqdm import tqdm

from soundreel.cli.display import Lines
from soundreel.types import Progress, Stage


class DownloadLog(tqdm):
    """In place of the hub's bar: lines as of a render, with percent and time left."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self._lines = Lines()
        settings |= {"disable": False, "file": io.StringIO()}
        super().__init__(*arguments, **settings)  # type: ignore[no-untyped-call]

    def display(self, *_: Any, **__: Any) -> None:
        """Print a line, where it is time for one; called some times a second at most."""
        seconds, done, total = self.format_dict["elapsed"], int(self.n), int(self.total or 0)
        came = done - self.initial
        left = seconds * (total - done) / came if came else None
        self._lines(Progress(stage=Stage.DOWNLOAD, done=done, total=total, seconds=seconds, eta_seconds=left))


class NoBar(tqdm):
    """In place of the hub's bar: nothing."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings | {"disable": True})  # type: ignore[no-untyped-call]
