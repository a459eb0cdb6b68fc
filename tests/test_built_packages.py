"""The sdist and the wheel that `make package` built: nothing is missing, and what is in them works elsewhere."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from command import REPO
from soundreel.server.page import STATIC

BUILT = os.environ.get("SOUNDREEL_DIST")
pytestmark = pytest.mark.skipif(not BUILT, reason="SOUNDREEL_DIST names no built packages: make package")

QUICK_TESTS = ("tests/test_packaging.py", "tests/test_planning.py", "tests/test_request.py")


def built(pattern: str) -> Path:
    (package,) = (REPO / str(BUILT)).glob(pattern)
    return package


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked far from the repo."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built("soundreel-*.tar.gz")) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel is installed to."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder]
    subprocess.run([*pip, built("soundreel-*.whl")], check=True)
    return folder


def run_with(source: Path, *command: str | Path, cwd: Path) -> str:
    """What a command says that finds the package in `source`; it must succeed."""
    settings = {**os.environ, "PYTHONPATH": str(source)}
    done = subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_of(root: Path) -> set[str]:
    paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if "__pycache__" not in path.parts}


def tracked() -> set[str]:
    if not (REPO / ".git").exists():
        pytest.skip("not a clone")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, capture_output=True, check=True, text=True)
    return set(listed.stdout.rstrip("\0").split("\0"))


def test_sdist_holds_what_git_tracks(sdist: Path) -> None:
    page = {f"src/soundreel/server/static/{name}" for name in files_of(STATIC)}
    assert page, "make package builds it"
    assert files_of(sdist) == tracked() | page | {"PKG-INFO"}


def test_checks_pass_in_the_unpacked_sdist(sdist: Path) -> None:
    environment = Path(sys.prefix)
    ready = f"{environment}/.dev"  # nothing is installed again
    said = run_with(sdist / "src", "make", "-o", ready, f"VENV={environment}", "check", cwd=sdist)
    assert "0 broken" in said


def test_tests_pass_in_the_unpacked_sdist(sdist: Path) -> None:
    where = run_with(sdist / "src", sys.executable, "-c", "import soundreel; print(soundreel.__file__)", cwd=sdist)
    assert Path(where.strip()).is_relative_to(sdist)
    said = run_with(sdist / "src", sys.executable, "-m", "pytest", *QUICK_TESTS, cwd=sdist)
    assert re.search(r"^=+ \d\d+ passed", said, re.MULTILINE), said
    said = run_with(sdist / "src", sys.executable, "-m", "pytest", "--collect-only", "-q", cwd=sdist)
    assert re.search(r"^\d{4,}/\d+ tests collected", said, re.MULTILINE), "a test file misses something"


def test_wheel_holds_the_package_and_the_example(wheel: Path) -> None:
    package = files_of(REPO / "src" / "soundreel") | {
        f"example/{name}" for name in ("tune.flac", "cover.png", "song.mp3", "song.toml")
    }
    assert files_of(wheel / "soundreel") == package
    assert "py.typed" in package
    others = {path.name for path in wheel.iterdir()} - {"soundreel", "bin"}
    assert len(others) == 1, "its metadata, no tests, no scripts"


def test_demo_renders_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    said = run_with(wheel, sys.executable, "-m", "soundreel", "demo", "--output-dir", "demo", cwd=tmp_path)
    assert [line for line in said.split() if not (tmp_path / line).is_file()] == []
    assert len(files_of(tmp_path / "demo")) == 3


def metadata(name: str) -> Message:
    if name == "sdist":
        with tarfile.open(built("soundreel-*.tar.gz")) as archive:
            (member,) = (
                member for member in archive.getmembers() if member.name.count("/") == 1 and "PKG-INFO" in member.name
            )
            file = archive.extractfile(member)
            assert file is not None
            return message_from_bytes(file.read())
    with zipfile.ZipFile(built("soundreel-*.whl")) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(member))


@pytest.mark.parametrize("package", ["sdist", "wheel"])
def test_the_page_on_pypi_links_no_file_of_the_repo_by_a_relative_path(package: str) -> None:
    fields = metadata(package)
    page = fields.get_payload()
    assert isinstance(page, str)
    assert page.startswith("# soundreel")
    links = re.findall(r"\]\(([^)\s]+)\)", page)
    assert len(links) == len(re.findall(r"\]\(", (REPO / "README.md").read_text(encoding="utf-8")))
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    assert len(fields.get_all("Project-URL", [])) == 5
