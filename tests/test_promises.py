"""What the pages promise: each promise names a test that is there, and what is written there can be typed in."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

import soundreel
from command import REPO, SMALL, run_here
from soundreel import errors
from soundreel.cli.app import app
from soundreel.cli.streams import LOST_OUTPUT_EXIT_CODE
from soundreel.errors import INSTALL_NATIVE, SoundreelError
from soundreel.media.video import probe_video
from soundreel.planning import count_tokens, plan
from soundreel.render.recipe import RECIPE_KEY
from soundreel.request import Request, Server
from soundreel.request.presets import DEFAULT_FRAMES, PRESETS
from soundreel.units import LEAD_IN_FRAMES

PROMISES = REPO / "docs" / "promises.md"
MOST_LETTERS = 128
"""Of a line that is none of a table."""

PAGES = [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted(REPO.glob("docs/*.md"))]
NAMED_TEST = re.compile(r"`(tests/\w+\.py)::([\w:]+)`")
SHELL = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)

OTHER_PROGRAMS = {
    "--nproc_per_node": "torchrun",
    "--dit_fsdp": "the official script",
    "--preview-method": "ComfyUI",
    "--no-deps": "pip", "--ignore-requires-python": "pip", "--only-binary": "pip", "--target": "pip",
    "--head": "ray", "--ray-client-server-port": "ray", "--tmux": "ray",
}  # fmt: skip
"""Options of other programs that the pages name."""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@cache
def named_in(path: Path) -> frozenset[str]:
    """Names of the tests in a file, those of classes as Class::test."""
    found = set()
    for node in ast.parse(text_of(path)).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return frozenset(name for name in found if name.rpartition("::")[2].startswith("test_"))


class TestTheTable:
    def test_every_named_test_is_there(self) -> None:
        named = NAMED_TEST.findall(text_of(PROMISES))
        assert len(named) > 100
        assert [f"{file}::{name}" for file, name in named if name not in named_in(REPO / file)] == []

    def test_every_promise_names_a_test_and_a_page(self) -> None:
        rows = [line for line in text_of(PROMISES).splitlines() if line.startswith("| ") and "|---" not in line]
        promises = [row for row in rows if not row.startswith("| promise ")]
        assert len(promises) > 80
        assert [row for row in promises if not NAMED_TEST.search(row) or "](" not in row] == []

    def test_each_stands_there_once(self) -> None:
        promises = [line.split("|")[1].strip() for line in text_of(PROMISES).splitlines() if line.startswith("| ")]
        promises = [promise for promise in promises if promise != "promise"]
        assert len(promises) == len(set(promises))


# commands


def commands() -> Iterator[tuple[str, str]]:
    """Page and command line of every `soundreel …` in the pages' shell blocks."""
    for page in PAGES:
        for block in SHELL.findall(text_of(page)):
            for line in block.splitlines():
                for command in line.partition("#")[0].split(";"):
                    if command.strip().startswith("soundreel "):
                        yield page.name, command.strip()


COMMANDS = list(commands())


def understand(words: list[str]) -> Any:
    """Parse the words after `soundreel` as the command does; raises what it raises for those that it does not know."""
    group: Any = typer.main.get_command(app)
    if words[0] in {option for parameter in group.params for option in parameter.opts}:
        return group  # which would do it at once
    if words[0] not in group.commands:
        words = ["generate", *words]
    while hasattr(group, "commands"):
        group, words = group.commands[words[0]], words[1:]
    return group.make_context("soundreel", words, token_normalize_func=lambda token: token.replace("_", "-"))


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{page}-{n}" for n, (page, _) in enumerate(COMMANDS)])
def test_every_command_of_the_pages_is_understood(page: str, command: str) -> None:
    assert understand(shlex.split(command)[1:]) is not None


def test_every_header_in_the_pages_is_understood() -> None:
    headers = [header for page in PAGES for header in re.findall(r'--header "([^"]+)"', text_of(page))]
    assert headers
    assert Server(headers=tuple(headers)).headers == tuple(headers)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_line_of_a_page_is_no_longer_than_a_screen(page: Path) -> None:
    lines = text_of(page).splitlines()
    assert [line for line in lines if len(line) > MOST_LETTERS and not line.startswith("|")] == []


def test_there_are_commands_in_the_pages() -> None:
    assert len(COMMANDS) > 30
    with pytest.raises(Exception, match=r"(?i)no such option"):
        understand(["song.mp3", "--no-such-thing"])


def options_of(command: Any) -> Iterator[str]:
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for inner in getattr(command, "commands", {}).values():
        yield from options_of(inner)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_a_page_names_is_one(page: Path) -> None:
    scripts = "".join(text_of(path) for path in (REPO / "scripts").glob("*.py"))
    known = {option.replace("_", "-") for option in options_of(typer.main.get_command(app))}
    known |= {option.replace("_", "-") for option in re.findall(r'"(--[a-z_-]+)"', scripts)}
    known |= {option.replace("_", "-") for option in OTHER_PROGRAMS} | {"--help", "--ulysses-size"}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z_-]*[a-z]", text_of(page)))
    assert {option for option in named if option.replace("_", "-") not in known} == set()


# what stands in README


def test_clips_alone_cap_all_the_sound(capsys: pytest.CaptureFixture[str], tune: Path) -> None:
    planned = run_here(capsys, "plan", tune, "--num-clip", "2", "--infer-frames", "48", "--engine", "draft", "--json")
    assert json.loads(planned.out)["frames"] == 2 * 48 - LEAD_IN_FRAMES > DEFAULT_FRAMES


def test_a_draft_says_so_in_name_title_and_recipe(
    capsys: pytest.CaptureFixture[str], tune: Path, tmp_path: Path
) -> None:
    made = run_here(capsys, tune, *SMALL, "--frames", "4", "--engine", "draft", "--output-dir", tmp_path, "--quiet")
    assert "draft" in made.path.name.split("_")
    metadata = probe_video(made.path).metadata
    assert metadata["title"] == "tune (draft)"
    assert json.loads(metadata[RECIPE_KEY])["engine"] == "draft"


def test_no_program_is_started_but_python_itself() -> None:
    """One module of the package imports what starts one: for processes that render shots, and those of a server."""
    starters = re.compile(
        r"^\s*(?:import|from) subprocess\b|\bos\.(?:system|popen|exec\w*|spawn\w*|posix_spawn)\(", re.M
    )
    found = [path.relative_to(REPO) for path in (REPO / "src").rglob("*.py") if starters.search(text_of(path))]
    assert sorted(map(str, found)) == ["src/soundreel/render/child_process.py"]
    for path in found:
        (started,) = re.findall(r"subprocess\.Popen\((?:  # noqa.*\n\s*)?(\w+),", text_of(REPO / path))
        assert f"{started} = [sys.executable, " in text_of(REPO / path)


def test_the_exit_codes_are_those_of_the_errors() -> None:
    promised = re.search(r"Exit codes: (.*?)\.\n", text_of(REPO / "README.md"), re.DOTALL)
    assert promised is not None
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SoundreelError)]
    codes = {0, LOST_OUTPUT_EXIT_CODE, *(kind.exit_code for kind in kinds)}
    assert set(map(int, re.findall(r"\b(\d+) ", promised[1]))) == codes


def test_every_preset_is_named() -> None:
    readme = text_of(REPO / "README.md")
    assert [name for name in PRESETS if f"`{name}`" not in readme and f"--preset {name}`" not in readme] == []


@pytest.mark.parametrize("frames", [77, 161, 241, 305])
def test_computed_times_are_as_the_page_computes_them(frames: int) -> None:
    """Passes × seconds of a pass over a clip's tokens, by the two numbers that docs/speed.md gives for fp8."""
    speed = text_of(REPO / "docs" / "speed.md")
    formula = re.search(r"^([\d.e-]+) · N \+ ([\d.e-]+) · N² seconds in fp8", speed, re.MULTILINE)
    assert formula is not None
    linear, square = map(float, formula.groups())
    planned = plan(Request(audio="song.mp3", frames=frames, width=832, height=1216), 3600.0)
    tokens = [count_tokens(planned, clip).total for clip in planned.clips]
    one_pass_each = sum(linear * count + square * count**2 for count in tokens)
    computed = re.search(rf"^\| {frames} frames\b.*? \| 60 \| (\d+) s \|", speed, re.MULTILINE)
    beside = re.search(rf"^\| {frames}, .*? \| (\d+) s \| (\d+) s \|", text_of(REPO / "README.md"), re.MULTILINE)
    assert computed is not None
    assert beside is not None
    assert int(computed[1]) == int(beside[1]) == pytest.approx(60 * one_pass_each, rel=0.002)
    assert int(beside[2]) == pytest.approx(4 * one_pass_each, abs=0.6)


def test_every_name_of_the_python_part_is_public() -> None:
    python = text_of(REPO / "README.md").partition("\n## Python\n")[2].partition("\n## ")[0]
    names = set(re.findall(r"`?\b([A-Z][a-z]+[A-Z]?\w+)\(", python)) | {"SoundreelError", "CancelFlag"}
    assert {"Request", "WorkOptions", "Sampling"} <= names
    assert names <= set(soundreel.__all__)


def test_one_text_says_how_the_packages_of_native_are_installed() -> None:
    assert "`pip install '.[native]'`" in text_of(REPO / "README.md")
    assert INSTALL_NATIVE.startswith("pip install '.[native]'")
    hints = [
        path.relative_to(REPO)
        for path in (REPO / "src").rglob("*.py")
        if re.search(r"pip install.*(?:native|torch|diffusers|gguf|transformers|peft)", text_of(path))
    ]
    assert hints == [Path("src/soundreel/errors.py")]


def test_every_room_of_the_house_is_there() -> None:
    house = text_of(REPO / "docs" / "architecture.md").partition("\n## The house\n")[2].partition("\n## ")[0]
    rooms = [
        room for row in re.findall(r"^\| (`.*?) \|", house, re.MULTILINE) for room in re.findall(r"`([\w./]+)`", row)
    ]
    assert len(rooms) > 15
    assert [room for room in rooms if not (REPO / "src" / "soundreel" / room).exists()] == []
