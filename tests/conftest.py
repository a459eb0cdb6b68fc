"""Fixtures shared by all tests."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from command import end_all
from references import NotInstalledError
from references.store import references, stored_references

# Tests run side by side, and torch's threads spin while they wait: set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Else each process that a test starts would compile the package anew, and each run all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


# how long an example takes says how busy the machine is
settings.register_profile("soundreel", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("soundreel")


def pytest_configure() -> None:
    """Begun in the background of a script this process ignores Ctrl-C, and so would those that it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def nothing_goes_on() -> Iterator[None]:
    """Processes end with their test, also where it fails."""
    yield
    end_all()


SHARED = Path(os.environ.get("SOUNDREEL_SHARED", Path(__file__).parents[2] / "shared"))
"""Data that are not in the repository; tests do without where they can."""

GIVEN = (SHARED / "golden").is_dir()
GOLDEN = SHARED / "golden" if GIVEN else stored_references()
"""Tiny checkpoints, inputs and cases; those of our own are made when the fixture `golden` is first asked for."""

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="session")
def media() -> Path:
    """Real sound, pictures and video, where they are at hand."""
    if not (SHARED / "media").is_dir():
        pytest.skip("../shared/media is not here")
    return SHARED / "media"


@pytest.fixture(scope="session")
def golden() -> Path:
    """The golden data, or references of our own in their place: made by the official package, half a minute, kept."""
    if not GIVEN:
        pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
        pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")
        try:
            return references()
        except NotInstalledError as error:
            pytest.skip(str(error))
    return GOLDEN


@pytest.fixture(scope="session")
def manifest(golden: Path) -> Path:
    """Names and shapes of the full-size model's tensors."""
    return SHARED / "spec" / "s2v_14b_manifest.json" if GIVEN else golden / "s2v_14b_manifest.json"


@pytest.fixture(scope="session")
def tune() -> Path:
    """The repo's own example sound."""
    return EXAMPLES / "tune.flac"


@pytest.fixture(scope="session")
def cover() -> Path:
    """The repo's own example picture."""
    return EXAMPLES / "cover.png"


@pytest.fixture
def few_partial_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    """One per render, for tests of many renders that look at none: each costs as much as the video itself."""
    monkeypatch.setattr("soundreel.render.publish.FREE_SECONDS", 0.0)
    monkeypatch.setattr("soundreel.render.publish.SHARE", 0.0)
