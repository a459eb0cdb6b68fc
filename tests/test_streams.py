"""A render outlives its log: standard streams that are closed, full, or pipes whose reader has gone."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from command import REPO, SMALL, Outcome, events_of, finish, run_here, start
from media_files import quick_sound
from soundreel.cli import plan_report, reports, video_report
from soundreel.cli.app import app
from soundreel.cli.guard import guard
from soundreel.cli.streams import LenientStream
from soundreel.media.video import SegmentWriter, probe_video

FULL_DEVICE = Path("/dev/full")
"""Takes nothing, as a full disk."""

DRAFT = (*SMALL, "--frames", "3", "--engine", "draft")


@pytest.fixture(scope="module")
def sound(tune: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_sound(tune, tmp_path_factory.mktemp("quick"))


@contextmanager
def closed(name: str) -> Iterator[dict[str, object]]:
    yield {"preexec_fn": lambda: os.close(1 if name == "stdout" else 2), name: None}


@contextmanager
def full(name: str) -> Iterator[dict[str, object]]:
    if not FULL_DEVICE.exists():
        pytest.skip(f"{FULL_DEVICE} is not here")
    with FULL_DEVICE.open("w") as device:
        yield {name: device}


@contextmanager
def ended(name: str) -> Iterator[dict[str, object]]:
    """A pipe that nobody reads any more, as after `| head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield {name: writer}
    finally:
        os.close(writer)


@contextmanager
def stuffed(name: str) -> Iterator[dict[str, object]]:
    """A pipe that is full, and says so instead of waiting."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(4096))
    except BlockingIOError:
        yield {name: writer}
    finally:
        os.close(reader)
        os.close(writer)


Lose = Callable[[str], AbstractContextManager[dict[str, object]]]
"""The settings of a process by which it loses the stream of that name."""


def run(*words: str | os.PathLike[str], program: tuple[str, ...] = ("-m", "soundreel"), **settings: object) -> Outcome:
    """Run the command with some standard streams of the test's own."""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": buffered} | settings
    command = [sys.executable, *program, *map(os.fspath, words)]
    with subprocess.Popen(command, text=True, **streams) as process:  # type: ignore[call-overload]
        out, err = process.communicate(timeout=120)
        return Outcome(code=process.returncode, out=out or "", err=err or "")


@pytest.mark.parametrize(
    ("lost", "style"), [(closed, "lines"), (full, "lines"), (ended, "json"), (stuffed, "lines"), (full, "bar")]
)
def test_a_render_goes_on_without_its_log(sound: Path, tmp_path: Path, lost: Lose, style: str) -> None:
    video = tmp_path / "a.mp4"
    with lost("stderr") as streams:
        done = run("generate", sound, *DRAFT, "-o", video, "--progress", style, **streams)
    assert (done.code, done.out) == (0, f"{video}\n")
    assert probe_video(video).frames == 3


@pytest.mark.parametrize(
    ("lost", "style"), [(closed, "lines"), (full, "none"), (ended, "lines"), (stuffed, "lines"), (full, "json")]
)
def test_an_answer_that_cannot_be_given_is_said_in_the_end(sound: Path, tmp_path: Path, lost: Lose, style: str) -> None:
    video = tmp_path / "a.mp4"
    with lost("stdout") as streams:
        done = run("generate", sound, *DRAFT, "-o", video, "--progress", style, **streams)
    assert done.code == 6
    assert probe_video(video).frames == 3
    assert f"soundreel: {video} is there, but standard output did not take it all (" in done.err.splitlines()[-1]


def test_all_lost_the_video_is_there(sound: Path, tmp_path: Path) -> None:
    """As `soundreel … 2>&1 | head -1`."""
    with ended("stdout") as out, ended("stderr") as err:
        done = run("generate", sound, *DRAFT, "-o", tmp_path / "a.mp4", **out, **err)
    assert done.code == 6
    assert probe_video(tmp_path / "a.mp4").frames == 3


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_the_reader_may_leave_in_the_middle(sound: Path, tmp_path: Path, name: str) -> None:
    process = start("generate", sound, *DRAFT, "-o", tmp_path / "a.mp4", "--progress", "json")
    assert next(events_of(process))["event"] == "start"
    getattr(process, name).close()
    done = finish(process)
    assert done.code == (6 if name == "stdout" else 0)
    assert done.out == ("" if name == "stdout" else f"{tmp_path / 'a.mp4'}\n")
    assert ("a.mp4 is there, but standard output did not take it all (Broken pipe)" in done.err) == (name == "stdout")
    assert probe_video(tmp_path / "a.mp4").frames == 3


def test_an_interpolation_goes_on_without_its_log(tmp_path: Path) -> None:
    source, video = tmp_path / "a.mp4", tmp_path / "b.mp4"
    with SegmentWriter(source, width=32, height=32) as writer:
        writer.write(np.zeros((2, 32, 32, 3), np.uint8))
    with ended("stdout") as out, ended("stderr") as err:
        done = run("interpolate", source, "-o", video, **out, **err)
    assert done.code == 6
    assert probe_video(video).frames == 4


@pytest.mark.parametrize(("lost", "says"), [(ended, ""), (full, "soundreel: standard output did not take it all (")])
def test_a_report_that_nobody_reads_is_no_error_of_ours(sound: Path, lost: Lose, says: str) -> None:
    with lost("stdout") as streams:
        done = run("plan", sound, *DRAFT, **streams)
    assert done.code == 6
    assert done.err.startswith(says)
    assert len(done.err.splitlines()) == bool(says)


def test_an_error_keeps_its_exit_code(tmp_path: Path) -> None:
    with full("stdout") as out, full("stderr") as err:
        assert run("generate", tmp_path / "nowhere.mp3", **out, **err).code == 2


@pytest.mark.parametrize("script", ["generate.py", "generate_wan22_sound_video.py"])
def test_the_scripts_go_on_as_well(sound: Path, tmp_path: Path, script: str) -> None:
    """Both have a note of their own to say."""
    words: dict[str, tuple[str | Path, ...]] = {
        "generate.py": ("--audio", sound, "--num_clip", "1", "--infer_frames", "4", "--t5_cpu", "--size", "480*832"),
        "generate_wan22_sound_video.py": (sound, *SMALL, "--frames", "3", "--interpolate", "film"),
    }
    program = (str(REPO / "scripts" / script),)
    with ended("stderr") as streams:
        done = run(*words[script], "--engine", "draft", program=program, cwd=tmp_path, **streams)
    assert done.code == 0
    assert probe_video(tmp_path / done.path).frames > 0


def test_no_file_gets_the_handle_of_a_closed_stream(tmp_path: Path) -> None:
    """Or a library that logs to handle 2 would write into it."""
    program = f"""if True:
        from soundreel.cli.guard import guard
        def command():
            with open({str(tmp_path / "handle")!r}, "w") as file:
                file.write(str(file.fileno()))
        guard(command)
    """
    done = run(program=("-c", program), stdout=None, stderr=None, preexec_fn=lambda: os.closerange(0, 3))
    assert done.code == 0
    assert int((tmp_path / "handle").read_text()) > 2


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("style", ["lines", "json"])
@pytest.mark.parametrize("name", [b"\xe9t\xe9.mp4", "été→.mp4".encode()], ids=["bytes", "letters"])
def test_any_name_can_be_said_in_any_encoding(
    sound: Path, tmp_path: Path, name: bytes, style: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = tmp_path / os.fsdecode(name)
    try:
        video.touch()
    except OSError:
        pytest.skip("the file system has no such names")
    said = {stream: io.BytesIO() for stream in ("stdout", "stderr")}
    for stream, binary in said.items():
        monkeypatch.setattr(sys, stream, io.TextIOWrapper(binary, encoding=encoding, errors="strict"))
    monkeypatch.setattr(sys, "argv", ["soundreel", "generate", *map(str, (sound, *DRAFT, "-o", video))])
    sys.argv += ["--progress", style]
    with pytest.raises(SystemExit) as stop:
        guard(app)
    assert stop.value.code == 0
    assert probe_video(video).frames == 3
    assert said["stdout"].getvalue() == os.fsencode(video) + b"\n"
    if style == "json":
        assert json.loads(said["stderr"].getvalue().splitlines()[-1])["path"] == str(video)


@pytest.mark.parametrize("words", ["plan song.wav", "info a.mp4", "unfinished"])
def test_ctrl_c_in_a_report_is_one_line(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module, report in (
        (plan_report, "describe_plan"), (video_report, "describe_video"), (reports, "describe_renders")
    ):  # fmt: skip
        monkeypatch.setattr(module, report, lambda *_, **__: signal.raise_signal(signal.SIGINT))
    monkeypatch.setattr("soundreel.media.video.has_pictures", lambda _: True)
    done = run_here(capsys, *words.split())
    assert (done.code, done.out, done.err) == (130, "", "soundreel: cancelled\n")


# the stream itself


class Failing(io.StringIO):
    """Takes so many writes and no more."""

    def __init__(self, takes: int) -> None:
        super().__init__()
        self._left = takes

    def write(self, text: str) -> int:
        if self._left == 0:
            raise OSError(28, "No space left on device")
        self._left -= 1
        return super().write(text)


def test_what_was_taken_before_a_failure_stays() -> None:
    own = Failing(takes=2)
    stream = LenientStream(own)
    for line in ("a\n", "b\n", "c\n"):
        assert stream.write(line) == 2
    assert own.getvalue() == "a\nb\n"
    assert isinstance(stream.failure, OSError)


def test_a_stream_that_is_closed_meanwhile_loses_the_rest() -> None:
    own = io.StringIO()
    stream = LenientStream(own)
    own.close()
    stream.write("late")
    assert not stream.isatty()
    assert stream.failure is not None


def test_nothing_said_is_nothing_lost() -> None:
    assert not LenientStream(None).is_incomplete()
