"""Fixtures shared by all tests."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tests run side by side, and torch's threads spin while they wait: set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish() -> None:
    """What the modules imported stays: collections need not look through it again, a quarter of a second each."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is cached for users is neither read nor written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


SHARED = Path(__file__).parents[2] / "shared"
EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="session")
def media() -> Path:
    """Real sound, pictures and video, where they are at hand."""
    if not (SHARED / "media").is_dir():
        pytest.skip("../shared/media is not here")
    return SHARED / "media"


@pytest.fixture(scope="session")
def tune() -> Path:
    """The repo's own example sound."""
    return EXAMPLES / "tune.flac"


@pytest.fixture(scope="session")
def cover() -> Path:
    """The repo's own example picture."""
    return EXAMPLES / "cover.png"
