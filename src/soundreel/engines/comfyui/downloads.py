"""Download of a prompt's files, however often the connection is lost and whatever something in between answers."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from soundreel.disk.durable import rename_durably, reporting
from soundreel.engines.comfyui.client import Client, ServerFile
from soundreel.engines.comfyui.failures import FileGoneError, UnreachableError
from soundreel.engines.comfyui.patience import Patience
from soundreel.engines.comfyui.pictures import Pictures, ending
from soundreel.errors import EngineError
from soundreel.types import Progress, Stage

GONE_ANSWERS: Final = 3
"""Number of answers in a row that a file is gone until that is believed: a gateway may give one without asking."""

WHOLE_TRIES: Final = 4
"""Number of downloads of the same files until what comes is what the server has."""

PAUSE_SECONDS: Final = 1.0
"""Between such answers and downloads."""


class BrokenFilesError(EngineError):
    """The server's files are complete downloads, the same twice, and yet not what the prompt should have made."""


def download_whole(
    client: Client,
    files: Sequence[ServerFile],
    folder: Path,
    patience: Patience,
    check: Callable[[Pictures], None],
) -> Pictures:
    """Download `files` into `folder` until `check` takes them.

    Raises:
        FileGoneError: the server no longer has one.
        UnreachableError: the server does not answer for longer than `patience`, or each download is another.
        BrokenFilesError: two downloads in a row are the same, and `check` raises for them.
    """
    before = ""
    for _ in range(WHOLE_TRIES):
        pictures = download(client, files, folder, patience)
        try:
            check(pictures)
        except EngineError as error:
            digest = _take_away(pictures)
            if digest == before:
                raise BrokenFilesError(str(error)) from error
            before, reason = digest, error
            patience.sleep(PAUSE_SECONDS)
        else:
            return pictures
    raise UnreachableError(f"each download from {client.shown_url} is another: {reason}")


def download(client: Client, files: Sequence[ServerFile], folder: Path, patience: Patience) -> Pictures:
    """Download `files` into `folder`, except those that are there already.

    Raises:
        FileGoneError, UnreachableError: as in `download_whole`.
    """
    folder.mkdir(exist_ok=True)
    paths = tuple(folder / f"{number:05d}{ending(file)}" for number, file in enumerate(files, start=1))
    for number, (file, path) in enumerate(zip(files, paths, strict=True)):
        if path.exists():
            continue

        def on_bytes(done: int, total: int, number: int = number) -> None:
            done_files, files_total = (done, total) if len(files) == 1 else (number, len(files))
            patience.report(Progress(stage=Stage.DOWNLOAD, done=done_files, total=files_total))

        _download(client, file, path, on_bytes, patience)
    return Pictures(files=paths)


def _download(
    client: Client, file: ServerFile, path: Path, on_bytes: Callable[[int, int], None], patience: Patience
) -> None:
    """Download a file to `path`, which appears only when complete; what an earlier attempt received is kept."""
    part = path.with_name(path.name + ".part")
    for answer in range(1, GONE_ANSWERS + 1):
        try:
            with reporting(path):
                patience.bear(lambda: client.download_rest(file, part, on_bytes), renewed_by=lambda: _size(part))
                rename_durably(part, path)
            return
        except FileGoneError:
            if answer == GONE_ANSWERS:
                raise
            patience.sleep(PAUSE_SECONDS)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _take_away(pictures: Pictures) -> str:
    """Remove the files; returns the digest of their contents."""
    digest = hashlib.sha256()
    for file in pictures.files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
        file.unlink()
    return digest.hexdigest()
