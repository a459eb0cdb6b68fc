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
from soundreel.server.helper import LISTEN_SECONDS, Helper
from soundreel.server.jobs import Upload
from soundreel.server.uploads import Uploads

OnPart = Callable[[dict[str, Any]], None]


class Outline:
    """The outline of one sound: made in a thread of its own, followed by others.

    Args:
        make: calls what it is given with each part as `inspection.peaks` yields them.
    """

    def __init__(self, make: Callable[[OnPart], None]) -> None:
        self._make = make
        self._grown = threading.Condition()
        self._found: dict[str, Any] = {"peaks": []}
        self._is_whole = False
        self._failure: SoundreelError | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def after(self, first: int, *, is_whole: bool) -> dict[str, Any]:
        """What there is of it, once there are more than `first` pairs, or all of them.

        Raises:
            SoundreelError: the sound cannot be read to its end.
        """

        def is_enough() -> bool:
            return self._is_whole or (not is_whole and len(self._found["peaks"]) > first)

        with self._grown:
            self._grown.wait_for(lambda: self._failure is not None or is_enough())
            if not is_enough():
                assert self._failure is not None
                raise self._failure
            return _from(self._found, first, is_whole=self._is_whole)

    def _run(self) -> None:
        failure: SoundreelError | None = None
        try:
            self._make(self._add)
        except SoundreelError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - whatever it is, others wait for it
            failure = MediaError(f"this sound cannot be read ({type(error).__name__})")
        with self._grown:
            self._failure, self._is_whole = failure, failure is None
            self._grown.notify_all()

    def _add(self, part: dict[str, Any]) -> None:
        with self._grown:
            self._found = {**part, "peaks": self._found["peaks"] + part["peaks"]}
            self._grown.notify_all()


def _from(found: dict[str, Any], first: int, *, is_whole: bool) -> dict[str, Any]:
    return {**found, "first": first, "peaks": found["peaks"][first:], "is_whole": is_whole}


class Hearing:
    """Listens to uploads."""

    def __init__(self, uploads: Uploads, hide: PathHider) -> None:
        self._uploads, self._hide = uploads, hide
        self._outliner, self._listener = Helper(), Helper()
        self._outlines: dict[str, Outline] = {}  # those that are being made, by their uploads
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
        with self._lock:
            making = self._outlines.get(upload.id)
            if making is None:
                making = self._outlines[upload.id] = Outline(lambda on_part: self._outline(upload, on_part))
        with self._readable():
            return making.after(first, is_whole=is_whole)

    def _outline(self, upload: Upload, on_part: OnPart) -> None:
        sound, parts = upload.facts["sound"], []

        def keep(part: dict[str, Any]) -> None:
            parts.append(part)
            on_part(part)

        try:
            path, length, rate = str(self._uploads.path(upload)), sound["seconds"], sound["sample_rate"]
            self._outliner.ask("peaks", path, length, rate, seconds=LISTEN_SECONDS, on_part=keep)
            self._keep(upload, "peaks", {**parts[0], "peaks": [pair for part in parts for pair in part["peaks"]]})
        finally:
            with self._lock:
                del self._outlines[upload.id]

    def analysis(self, upload: Upload) -> dict[str, Any]:
        """All that is heard in a song; the first time takes up to minutes. Errors as in `outline`."""
        found = self._kept(upload, "analyse")
        if found is None:
            with self._readable():
                found = self._listener.ask("analyse", str(self._uploads.path(upload)), seconds=LISTEN_SECONDS)
            self._keep(upload, "analyse", found)
        return found

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
