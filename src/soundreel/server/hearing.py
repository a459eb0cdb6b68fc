"""What is heard in uploads: the outline of a sound, there from its beginning while it is made, and a song's analysis.

Both are kept beside the upload: they are made once.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from soundreel.disk.durable import write_whole
from soundreel.disk.plain_json import read_json
from soundreel.errors import MediaError, SoundreelError
from soundreel.server.errors import PathHider, RefusedError
from soundreel.server.growing import Growing
from soundreel.server.helper import LISTEN_SECONDS, Helper
from soundreel.server.jobs import Upload
from soundreel.server.uploads import Uploads

Grow = Callable[[dict[str, Any]], None]


def _from(found: dict[str, Any], first: int, *, is_whole: bool) -> dict[str, Any]:
    return {**found, "first": first, "peaks": found["peaks"][first:], "is_whole": is_whole}


class Hearing:
    """Listens to uploads."""

    def __init__(self, uploads: Uploads, hide: PathHider) -> None:
        self._uploads, self._hide = uploads, hide
        self._outliner, self._listener = Helper(), Helper()
        self._making: dict[tuple[str, str], Growing[dict[str, Any]]] = {}  # by what it is, and its upload
        self._lock = threading.Lock()

    def get_ready(self) -> None:
        """A sound will come soon."""
        self._outliner.get_ready()

    def close(self) -> None:
        """End the processes that listen."""
        self._outliner.close()
        self._listener.close()

    def outline(self, upload: Upload, first: int = 0, *, is_whole: bool) -> dict[str, Any]:
        """The peaks of a sound from number `first` on, once there is one; `is_whole`: once all are there.

        Raises:
            RefusedError: there is no sound in it, or it cannot be read.
        """
        kept = self._kept(upload, "peaks")
        if kept is not None:
            return _from(kept, first, is_whole=True)
        making = self._made(upload, "peaks", {"peaks": []}, self._outline)
        with self._readable():
            found, is_all = making.once(lambda found: not is_whole and len(found["peaks"]) > first)
        return _from(found, first, is_whole=is_all)

    def _outline(self, upload: Upload, grow: Grow) -> dict[str, Any]:
        sound = upload.facts["sound"]
        found: dict[str, Any] = {"peaks": []}

        def add(part: dict[str, Any]) -> None:
            nonlocal found
            found = {**part, "peaks": found["peaks"] + part["peaks"]}
            grow(found)

        path, length, rate = str(self._uploads.path(upload)), sound["seconds"], sound["sample_rate"]
        self._outliner.ask("peaks", path, length, rate, seconds=LISTEN_SECONDS, on_part=add)
        return found

    def analysis(self, upload: Upload) -> dict[str, Any]:
        """All that is heard in a song; the first time takes up to minutes. Errors as in `outline`."""
        kept = self._kept(upload, "analyse")
        if kept is not None:
            return kept
        with self._readable():
            found, _ = self._listening(upload).once(lambda _: False)
        return found

    def heard_seconds(self, upload: Upload, after: int) -> float:
        """How much of a song has been listened to, once that is more than `after` seconds, or all.

        It is listened to from now on, where it is not yet. Errors as in `outline`.
        """
        seconds: float = upload.facts.get("sound", {}).get("seconds", 0.0)
        if self._kept(upload, "analyse") is not None:
            return seconds
        with self._readable():
            found, is_all = self._listening(upload).once(lambda found: found["heard"] > after)
        return seconds if is_all else min(found["heard"], seconds)

    def _listening(self, upload: Upload) -> Growing[dict[str, Any]]:
        return self._made(upload, "analyse", {"heard": 0}, self._analyse)

    def _analyse(self, upload: Upload, grow: Grow) -> dict[str, Any]:
        path = str(self._uploads.path(upload))
        song: dict[str, Any] = self._listener.ask("analyse", path, seconds=LISTEN_SECONDS, on_part=grow)
        return song

    def _made(
        self, upload: Upload, what: str, begin: dict[str, Any], make: Callable[[Upload, Grow], dict[str, Any]]
    ) -> Growing[dict[str, Any]]:
        """What is made of an upload, once for all who want it now; it is kept in the end."""

        def keep(grow: Grow) -> dict[str, Any]:
            try:
                found = make(upload, grow)
                self._keep(upload, what, found)
            finally:
                with self._lock:
                    del self._making[what, upload.id]
            return found

        with self._lock:
            if (what, upload.id) not in self._making:
                self._making[what, upload.id] = Growing(begin, keep)
            return self._making[what, upload.id]

    def _kept(self, upload: Upload, what: str) -> dict[str, Any] | None:
        if "sound" not in upload.facts:
            raise RefusedError(400, "invalid_request", f"{upload.name!r} is a {upload.kind}: there is nothing to hear")
        with suppress(OSError, ValueError):
            found: dict[str, Any] = read_json(self._place(upload, what))
            return found
        return None

    def _keep(self, upload: Upload, what: str, found: dict[str, Any]) -> None:
        with suppress(MediaError):  # no room: it is found again
            write_whole(self._place(upload, what), lambda new: new.write_text(json.dumps(found)))

    def _place(self, upload: Upload, what: str) -> Path:
        return self._uploads.path(upload).parent / f"{what}.json"

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except SoundreelError as error:
            raise RefusedError(422, "unreadable_file", self._hide(str(error))) from error
