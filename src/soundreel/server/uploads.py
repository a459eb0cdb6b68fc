"""Files that strangers have sent: a private folder, a folder in it for each, under a name that does no harm.

uploads/file_1f2e…/song.mp3       the file
uploads/file_1f2e…/peaks.json     what was found in it later, where somebody has asked
uploads/arriving_…                on its way in, or left by a server that was killed
"""

import re
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from soundreel.disk.durable import sync
from soundreel.errors import SoundreelError
from soundreel.server.errors import PathHider, RefusedError, failure_of, not_found
from soundreel.server.helper import CHECK_SECONDS, Helper
from soundreel.server.jobs import Upload
from soundreel.server.settings import Settings
from soundreel.server.upload_table import UploadTable

UNREAD_SECONDS: Final = 24 * 3600.0
"""After which an upload that no job reads is removed."""

NAME_LETTERS: Final = 80

ARRIVING: Final = "arriving_"

WHAT_IT_MUST_BE: Final[Mapping[str, tuple[str, ...]]] = {
    "audio": ("sound",),
    "drive": ("sound",),
    "ref_image": ("picture",),
    "pose_video": ("video", "picture"),
}
"""Of the fields that are files, of a request or of a shot, which facts one of must be known of the upload."""


class Uploads:
    """The files, and what looks into them."""

    def __init__(self, settings: Settings, table: UploadTable, hide: PathHider) -> None:
        self._settings, self._table, self._hide = settings, table, hide
        self.folder = self._folder = settings.uploads
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._checker = Helper()

    def get_ready(self) -> None:
        """Files will come soon."""
        self._checker.get_ready()

    def close(self) -> None:
        """End the process that looks into files."""
        self._checker.close()

    def new_place(self) -> Path:
        """Where a file goes while it arrives."""
        return self._folder / f"{ARRIVING}{secrets.token_hex(8)}"

    def keep(self, arrived: Path, name: str, sha256: str, *, field: str = "file") -> Upload:
        """Look into a file that has arrived, and keep it; it takes seconds. `field` is what it is of a request.

        Raises:
            RefusedError: it is none that is taken, or there is no room for it.
        """
        try:
            found = self._checker.ask("check_upload", str(arrived), seconds=CHECK_SECONDS)
        except SoundreelError as error:
            failure = self._hide.failure(failure_of(error))
            message = failure.message.replace(arrived.name, name)
            raise RefusedError(400, "unreadable_file", message, field=field) from error
        identifier = f"file_{secrets.token_hex(12)}"
        safe = safe_name(name)
        upload = Upload(
            id=identifier,
            name=safe,
            kind=found.pop("kind"),
            bytes=arrived.stat().st_size,
            facts=found | {"sha256": sha256},
            created_at=time.time(),
        )
        place = self._folder / identifier
        place.mkdir(mode=0o700)
        try:
            arrived.rename(place / safe)
            sync(place / safe)
            sync(place)
            self._table.add(upload, self._settings.limits)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        return upload

    def find(self, upload: str) -> Upload:
        """An upload by its id; `RefusedError` where there is none."""
        return self._table.find(upload)

    def newest(self, *, limit: int) -> list[Upload]:
        """The newest uploads."""
        return self._table.newest(limit=limit)

    def path(self, upload: Upload) -> Path:
        """Where an upload is."""
        return self._folder / upload.id / upload.name

    def paths(self, files: Mapping[str, str]) -> dict[str, Path]:
        """Where the files of a job are, by the fields that they are."""
        return {field: self.path(self._table.find(upload)) for field, upload in files.items()}

    def check(self, files: Mapping[str, str]) -> dict[str, Upload]:
        """The uploads of a job, each of them what its field needs.

        Raises:
            RefusedError: one is not there, or something else.
        """
        found = {}
        for field, identifier in files.items():
            try:
                upload = found[field] = self._table.find(identifier)
            except RefusedError as error:
                raise RefusedError(400, "invalid_request", f"{error} for {field}", field=field) from None
            wanted = WHAT_IT_MUST_BE.get(field.rpartition(".")[2], ())
            if wanted and not any(kind in upload.facts for kind in wanted):
                raise RefusedError(
                    400, "invalid_request", f"{upload.name!r} is a {upload.kind}: expected a {wanted[0]}", field=field
                )
        return found

    def picture(self, upload: Upload) -> Path:
        """A small JPEG of a picture."""
        if "picture" not in upload.facts:
            raise not_found(f"picture in {upload.name!r}")
        small = self._folder / upload.id / "small.jpg"
        if not small.exists():
            try:
                self._checker.ask("thumbnail", str(self.path(upload)), str(small), seconds=CHECK_SECONDS)
            except SoundreelError as error:
                raise RefusedError(422, "unreadable_file", self._hide(str(error))) from error
        return small

    def remove(self, upload: str) -> None:
        """Remove an upload that no job reads."""
        self._table.delete(upload)
        shutil.rmtree(self._folder / upload, ignore_errors=True)

    def remove_unread(self) -> None:
        """Remove uploads that nobody has read for a day."""
        for upload in self._table.unread(time.time() - UNREAD_SECONDS):
            with suppress(RefusedError):
                self.remove(upload)

    def remove_broken(self) -> None:
        """Remove what a server before has left of uploads that were broken off; none may be arriving."""
        for place in self._folder.iterdir():
            if place.name.startswith(ARRIVING):
                place.unlink(missing_ok=True)
            elif not self._is_known(place.name):
                shutil.rmtree(place, ignore_errors=True)

    def _is_known(self, upload: str) -> bool:
        try:
            self._table.find(upload)
        except RefusedError as error:
            return error.status != 404
        return True


def safe_name(name: str) -> str:
    """A file's name without folders, and with nothing in it that a system or a terminal would obey."""
    last = re.split(r"[\\/]", name)[-1]
    plain = re.sub(r"[^\w .,()+\-]", "_", last).strip(" .")
    stem, dot, ending = plain.rpartition(".")
    if not dot or not stem:
        return (plain or "file")[:NAME_LETTERS]
    return f"{stem[: NAME_LETTERS - 10]}.{ending[:9]}"
