"""Where references are kept between runs, so that they are made once; light: nothing here imports torch."""

import hashlib
import importlib
import shutil
from importlib import metadata
from pathlib import Path

from filelock import FileLock

STORE = Path(__file__).parents[2] / ".references"
"""Beside the tests; ignored by git, removed by `make clean`."""

SEED = 0
"""Of the references that tests run on."""

_MADE_BY = ("wan22", "torch", "transformers", "diffusers", "tokenizers", "librosa", "av", "pillow")


def stored_references(seed: int = SEED) -> Path:
    """The folder for this seed, made by this code and these packages; it may not be there yet."""
    return STORE / f"seed{seed}-{_fingerprint()}"


def references(seed: int = SEED) -> Path:
    """The same folder, made if need be; of several processes one makes it and the others wait.

    Raises:
        NotInstalledError: the package `wan22` is missing.
    """
    folder = stored_references(seed)
    STORE.mkdir(exist_ok=True)
    with FileLock(STORE / f"seed{seed}.lock"):
        if not folder.is_dir():
            _make(folder, seed)
    return folder


def _make(folder: Path, seed: int) -> None:
    """Older folders of the seed make room; one that is broken off keeps another name."""
    for old in STORE.glob(f"seed{seed}-*"):
        shutil.rmtree(old)
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    importlib.import_module("references.make").make_references(unfinished, seed)
    unfinished.rename(folder)


def _fingerprint() -> str:
    """Changes with what makes the references."""
    made_by = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        made_by.update(source.read_bytes())
    for package in _MADE_BY:
        made_by.update(f"{package} {_version(package)}".encode())
    return made_by.hexdigest()[:12]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
