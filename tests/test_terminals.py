"""Screens: narrow and dumb terminals, encodings with few letters, names with more in them than is seen."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from command import SMALL, Outcome
from command_lines import COMMANDS
from media_files import quick_sound
from soundreel.cli.app import app
from soundreel.cli.guard import guard
from soundreel.cli.reports import Findings, show
from soundreel.cli.tables import fact_lines, table_lines
from soundreel.media.video import probe_video
from terminal import COLOUR, CONTROL, in_terminal

DRAFT = (*SMALL, "--frames", "35", "--infer-frames", "8", "--engine", "draft")
"""5 clips."""


@pytest.fixture(scope="module")
def sound(tune: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_sound(tune, tmp_path_factory.mktemp("quick"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def soundreel(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Run the command in this process, with pipes of any encoding; names are the bytes that they are."""

    def run(*words: str | os.PathLike[str], encoding: str = "utf-8") -> Outcome:
        said = {stream: io.BytesIO() for stream in ("stdout", "stderr")}
        streams = {stream: io.TextIOWrapper(binary, encoding=encoding) for stream, binary in said.items()}
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as stop:
            for name, stream in streams.items():
                patch.setattr(sys, name, stream)
            patch.setattr(sys, "argv", ["soundreel", *map(os.fspath, words)])
            guard(app)
        out, err = (binary.getvalue().decode("utf-8", "surrogateescape") for binary in said.values())
        assert "a bug" not in err
        return Outcome(code=int(stop.value.code or 0), out=out, err=err)

    return run


# narrow terminals


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_a_render_in_a_terminal(sound: Path, here: Path, columns: int) -> None:
    screen = in_terminal(sound, *DRAFT, "-o", "a.mp4", "--interpolate", "motion", columns=columns)
    assert screen.code == 0, screen.text
    bars = [line for line in screen.lines if re.search(r"\d+ %( |$)", line)]
    assert bars
    assert all(len(line.rstrip()) <= columns for line in bars), bars
    assert any(" left" in line for line in bars)
    assert any("━" in line for line in bars) == (columns >= 60)
    assert not re.search(r"\x1b\[[0-9;]*[34][0-9]", screen.raw), "none but the terminal's own colours, dark or light"
    assert "sound and picture verified" in screen.text
    assert screen.lines[-1] == str(here / "a.mp4")
    assert probe_video("a.mp4").frames == 70


HELP = [" ".join([*words, "-h"]) for words in ((), ("models",), *COMMANDS)]


@pytest.mark.parametrize("words", HELP)
def test_help_is_plain_lines_at_any_width(
    soundreel: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """No boxes, no colours that a terminal's own may swallow, no types of Python."""
    for columns in (40, 80, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        done = soundreel(*words.split())
        assert done.code == 0
        assert done.out.startswith("usage: soundreel")
        assert re.findall(r"[─│╭╰\x1b]|<str>|list\[|\[required|\[default|^ / |  +$", done.out, re.MULTILINE) == []
        long = [line for line in done.out.splitlines() if len(line) > columns]
        assert long == []


@pytest.mark.parametrize("columns", [20, 40])
@pytest.mark.parametrize("words", ["--help", "generate --help", "models --help", "interpolate --help"])
def test_help_cuts_no_name(
    soundreel: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, columns: int, words: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", soundreel(*words.split()).out))
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = soundreel(*words.split()).out.splitlines()
    assert {option for option in options if not any(option in line for line in lines)} == set()
    assert [line for line in lines if len(line) > columns and not line.startswith("-")] == []


def test_a_plan_is_wrapped_between_words(sound: Path) -> None:
    screen = in_terminal("plan", sound, *DRAFT, columns=20)
    assert screen.code == 0
    assert all(len(line) <= 20 for line in screen.lines), screen.text
    assert "clip 1, frames 5," in screen.text


class TestLayout:
    ROWS = (("engine", "draft (as asked, and for no other reason that anybody knows)"), ("歌", "日本語の歌 " * 6))
    TABLE = (("clip", "sound"), [("1", "日本語.flac"), ("12", "a song with a long name.mp3")])

    @pytest.mark.parametrize("columns", [12, 20, 40, 80, 120])
    def test_no_line_is_wider_than_the_terminal(self, columns: int) -> None:
        for lines in (fact_lines(self.ROWS, columns), table_lines(*self.TABLE, (), columns)):
            assert all(cell_len(line) <= columns for line in lines)

    def test_in_a_pipe_nothing_is_wrapped(self) -> None:
        assert [line.rstrip() for line in fact_lines(self.ROWS, None)] == [
            f"engine  {self.ROWS[0][1]}", f"歌      {self.ROWS[1][1].rstrip()}"
        ]  # fmt: skip
        assert list(table_lines(*self.TABLE, (), None)) == [
            "clip  sound",
            "   1  日本語.flac",
            "  12  a song with a long name.mp3",
        ]

    def test_a_line_below_a_row_is_never_wrapped(self) -> None:
        below = ["soundreel resume " + "x" * 300, ""]
        for columns in (20, 40, 80, 120, None):
            assert f"  {below[0]}" in list(table_lines(*self.TABLE, below, columns))


# terminals that can do less


def test_a_terminal_that_cannot_redraw_gets_lines(sound: Path, here: Path) -> None:
    screen = in_terminal(sound, *DRAFT, "-o", "a.mp4", columns=80, TERM="dumb")
    assert screen.code == 0
    assert not CONTROL.search(screen.raw)
    assert re.search(r"^render clip 1/5", screen.text, re.MULTILINE)


def test_no_color_is_heard(sound: Path, here: Path) -> None:
    for words in ((sound, *DRAFT, "-o", "a.mp4"), ("--help",)):
        sequences = "".join(COLOUR.findall(in_terminal(*words, columns=80, NO_COLOR="1").raw))
        assert not re.search(r"\x1b\[([0-9;]*;)?(3[0-7]|4[0-7]|9[0-7]|38|48)[;m]", sequences)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_few_letters_are_enough(sound: Path, here: Path, soundreel: Callable[..., Outcome], encoding: str) -> None:
    """Signs of our own become plain ones, letters of names are escaped."""
    (here / "日本.wav").write_bytes(sound.read_bytes())
    done = soundreel("日本.wav", *DRAFT, "-o", "é→.mp4", "--keep-work", encoding=encoding)
    assert (done.code, done.out) == (0, f"{here / 'é→.mp4'}\n"), done.err
    for words in ("models list", "models --help", "info é→.mp4", "plan 日本.wav", "info 日本", "--help"):
        assert soundreel(*words.split(), encoding=encoding).code in (0, 2)
    assert soundreel("doctor", encoding=encoding).out.startswith("+ python")
    assert r"\u65e5\u672c.wav" in soundreel("unfinished", encoding=encoding).out
    told = soundreel("info", "é→.mp4", "--json", encoding=encoding).out
    assert told.isascii()
    assert json.loads(told)["recipe"]["request"]["audio"] == "日本.wav"
    screen = in_terminal("日本.wav", *DRAFT, "-o", "b.mp4", columns=80, PYTHONIOENCODING=encoding)
    assert screen.code == 0, screen.text


# names with more in them than is seen

ODD_NAMES = {
    "newline": b"a\nsoundreel: all is well",
    "escape": b"a\x1b[31mred\x07",
    "direction": "a\u202egnp\u2066".encode(),
    "bytes": b"\xe9t\xe9",
    "line separator": "a\u2028b".encode(),
}
RAW = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2066-\u2069\udc80-\udcff]")
"""What a terminal would obey, line breaks aside."""


@pytest.fixture(params=ODD_NAMES.values(), ids=ODD_NAMES.keys())
def odd(request: pytest.FixtureRequest, here: Path, sound: Path) -> str:
    """Name of a sound, without its ending, in the current folder."""
    name = os.fsdecode(request.param)
    try:
        Path(f"{name}.wav").write_bytes(sound.read_bytes())
    except OSError:
        pytest.skip("the file system has no such names")
    return name


def test_odd_names_are_seen_as_they_are(odd: str, soundreel: Callable[..., Outcome]) -> None:
    """In messages, notes, events and tables; a program gets the path as it is."""
    rendered = soundreel(f"{odd}.wav", *DRAFT, "--output-dir", f"{odd}/out", "--keep-work", "--progress", "lines")
    assert rendered.code == 0
    video = rendered.out.removesuffix("\n")
    assert Path(video).is_file()
    said = [rendered.err]
    for words in (("info", video), ("unfinished", odd), ("clean", odd, "--dry-run")):
        said.append(soundreel(*words).out)
        assert len(json.loads(soundreel(*words, "--json").out)) > 0
    for wrong in (
        ("info", f"{odd}.gone"),
        ("plan", f"{odd}.wav", "--ref-image", f"{odd}.png"),
        (f"{odd}.wav", "-o", odd),
        (f"--{odd}",),
        (f"{odd}x".replace("\n", ""),),
        ("generate", f"{odd}.wav", "--engine", odd),
        ("interpolate", f"{odd}.wav"),
        ("resume", odd, "--no-such-option"),
        (f"{odd}.gone", "--progress", "json"),
    ):
        done = soundreel(*wrong)
        assert (done.code > 0, done.out, len(done.err.splitlines())) == (True, "", 1), ascii(done)
        said.append(done.err)
    said.append(soundreel("resume", odd, "--trust-folder", "--quiet").err)
    assert [ascii(text) for text in said if RAW.search(text)] == []


def test_tables_are_laid_out_by_what_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    """Escaped names are longer than they were: what stands right of them still begins below its heading."""
    names = ("plain.wav", "a\x1b[31m\n.wav", "\u202eb.wav")
    show(Findings(data={}, rows=[], columns=("sound", "size"), cells=[(name, "7 MB") for name in names]), as_json=False)
    heading, *rows = capsys.readouterr().out.splitlines()
    assert [row.split("  ")[0] for row in rows] == ["plain.wav", r"a\x1b[31m\n.wav", r"\u202eb.wav"]
    assert {row.index("7 MB") for row in rows} == {heading.index("size")}


def test_the_command_to_go_on_with_is_understood_by_a_shell(odd: str, soundreel: Callable[..., Outcome]) -> None:
    soundreel(f"{odd}.wav", *DRAFT, "--output-dir", f"{odd}/out", "--keep-work", "--quiet")
    (line,) = [line for line in soundreel("unfinished", odd).out.splitlines() if "go on with:" in line]
    program = f"soundreel() {{ printf '%s' \"$2\"; }}; {line.partition('go on with: ')[2]}"
    folder = subprocess.run(["bash", "-c", program], capture_output=True, check=True).stdout
    assert (Path(os.fsdecode(folder)) / "plan.json").is_file()


@pytest.mark.parametrize("columns", [20, 80])
def test_the_command_in_jobs_is_one_line(
    sound: Path, here: Path, soundreel: Callable[..., Outcome], columns: int
) -> None:
    long = here / ("a folder with a long name " * 6)
    soundreel(sound, *DRAFT, "-o", long / "a.mp4", "--keep-work", "--quiet")
    screen = in_terminal("jobs", here, columns=columns)
    (work,) = (long / ".soundreel").iterdir()
    assert screen.lines[-1] == f"  go on with: soundreel reprint {shlex.quote(str(work))}"


def test_a_terminal_gets_no_raw_name_on_standard_output_either(sound: Path, here: Path) -> None:
    screen = in_terminal(sound, *DRAFT, "-o", "a\x1b[31m\n.mp4", "--quiet", columns=80)
    assert (screen.code, screen.text.strip()) == (0, rf"$'{here}/a\x1b[31m\x0a.mp4'")
