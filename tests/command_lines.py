"""Command lines as nobody would write them: every command, its own options and those of others, values of any kind.

What is drawn is cheap to render: the sounds in `furnish`'s folder last a second, and no number asks for many frames.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import typer
from hypothesis import strategies as st
from PIL import Image

from command import events_of, finish, start
from media_files import tone, write_sound, write_video
from soundreel.cli.app import app

TINY: Final = ("--engine", "draft", "--size", "32x32", "--infer-frames", "8")
"""Two clips and more of a second of sound."""

SOUNDS: Final = ("tone.wav", "song.mp3", "other.mp4", "kept/a.mp4")
VIDEOS: Final = ("other.mp4", "kept/a.mp4", "plain/b.mp4")
WORK_FOLDERS: Final = ("work", "begun")
FILES: Final = (*SOUNDS, *VIDEOS, "cover.png", "text.txt", "empty.wav", "noise.mp4", "graph.json", "link.wav", "folder")
NO_FILES: Final = (
    "nowhere.mp4", "nowhere/new.mp4", "", ".", "tone.wav/below.mp4", "folder/.mp4", ".mp4", "a\nb.mp4", "\udcff.mp4",
    "é🎷.mp4", "%d.mp4", "-", "--", "x" * 300 + ".mp4", "concat:tone.wav", "http://127.0.0.1:9/a.mp4", "[b]a[/b].mp4",
)  # fmt: skip

NUMBERS: Final = (
    "0", "1", "2", "5", "-1", "0.5", "1.0", "1e-9", "nan", "-inf", "1e400", "٣", "", " 5 ", "9" * 25, "-" + "9" * 25,
    "0x10", "True", ":", "1::2", "0:01", "-0:01", "0:00.25", "1,2", "0.0,0.8", "1.0,0.5,0.1", "1.0,nan",
)  # fmt: skip
"""None that is valid means more than five frames, a second or ten."""


def furnish(place: Path) -> None:
    """Fill a folder with all that the command lines name: good files, bad ones, finished and interrupted renders."""
    (place / "folder").mkdir()
    sound = tone(1.0, 16_000)
    for name in ("tone.wav", "song.mp3"):
        write_sound(place / name, sound, 16_000)
    write_video(place / "other.mp4", sound, 16_000)
    Image.fromarray(np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3)).save(place / "cover.png")
    (place / "text.txt").write_text("These are not the sounds you are looking for.\n")
    (place / "graph.json").write_text('{"1": {"class_type": "KSampler", "inputs": {}}}')
    (place / "empty.wav").touch()
    (place / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (place / "link.wav").symlink_to("tone.wav")
    render = ("generate", "tone.wav", *TINY, "--quiet")
    for words in (
        (*render, "--output", "kept/a.mp4", "--keep-work"),
        (*render, "--output", "plain/b.mp4"),
        (*render, "--output", "made.mp4", "--keep-work", "--work-dir", "work"),
    ):
        assert finish(start(*words, cwd=place)).code == 0
    process = start(*render[:-1], "--output", "unmade.mp4", "--work-dir", "begun", "--progress", "json", cwd=place)
    assert any(event.get("clip") == 2 for event in events_of(process))
    process.kill()
    finish(process)


# what a command takes


def commands() -> Mapping[tuple[str, ...], Sequence[Any]]:
    """The parameters of every command, by the words that call it."""
    return dict(_commands(typer.main.get_command(app), ()))


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Sequence[Any]]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*words, name))
    if not hasattr(command, "commands"):
        yield words, command.params


COMMANDS: Final = {words: parameters for words, parameters in commands().items() if words != ("models", "download")}
"""All but the one that needs a network."""

PATHS: Final[Mapping[str, Sequence[str]]] = {
    "audio": SOUNDS,
    "ref_image": ("cover.png",),
    "recipe": VIDEOS,
    "guide__pose_video": VIDEOS,
    "server__workflow": ("graph.json",),
    "output": ("new.mp4", "folder/new.mp4", "plain/b.mp4"),
    "output__path": ("new.mp4", "folder/new.mp4", "plain/b.mp4"),
    "output__dir": ("folder", "new folder"),
    "work_dir": (*WORK_FOLDERS, "folder", "new folder"),
    "folder": (*WORK_FOLDERS, ".", "kept", "kept/.soundreel"),
    "source": (*WORK_FOLDERS, "kept/a.mp4", "kept"),
    "video": VIDEOS,
    "videos": VIDEOS,
    "sound": SOUNDS,
    "inputs": ("folder", "."),
    "models": ("folder",),
    "compute__models": ("folder",),
    "weights": FILES,
    "output__weights": FILES,
    "export_workflow": ("folder/new.json", "new.json"),
}
"""Places that fit, by parameter."""

WORDS: Final[Mapping[str, Sequence[str]]] = {
    "prompt": ("dusk, teal and amber light", "[red]", "ä🎷"),
    "negative_prompt": ("blurry",),
    "cuts": ("0.5", "0:00.25"),
    "seed": ("0", "7", "-1"),
    "window__start": ("0", "0.5", "0:00.25"),
    "window__duration": ("0.25", "0:01"),
    "window__num_clip": ("1", "2"),
    "sampling__steps": ("1", "4"),
    "sampling__guide_scale": ("1", "4.5"),
    "sampling__shift": ("3", "0.5"),
    "sampling__sigmas": ("1.0,0.5,0.1",),
    "sampling__cache": ("0", "0.05"),
    "sampling__cfg_interval": ("0.0,0.8",),
    "server__timeout": ("1", "0.5"),
    "output__settings": ("night", "a/b", "x" * 100),
    "redo_clip": ("1", "2"),
    "number": ("1", "2", "3"),
    "frames": ("1",),
    "width": ("16", "32", "48"),
    "height": ("16", "32", "48"),
    "size": ("16x32", "32*16", "32×48", "16x", "x", "axb"),
    "window__frames": ("1", "2", "5", "9"),
    "sampling__infer_frames": ("4", "8", "80"),
    "output__crf": ("0", "18", "51", "52"),
    "crf": ("0", "18", "51", "52"),
    "output__fps": ("16", "24", "30", "60", "241"),
    "fps": ("16", "24", "30", "60", "241"),
    "factor": ("2", "3"),
    "output__interpolate": ("motion", "none", "rife", "film"),
    "interpolate": ("motion", "none", "rife", "film"),
    "method": ("motion", "none", "rife", "film"),
    "guide__ref_fit": ("cover", "reference"),
    "guide__av_align": ("sound", "reference"),
    "sampling__solver": ("unipc", "dpm++", "euler"),
    "sampling__clip_split": ("even", "full"),
    "compute__device": ("auto", "cpu", "cuda", "cuda:7", "mps"),
    "compute__loras": ("tone.wav:0.5", "a.safetensors", "a:b"),
    "compute__attention": ("sdpa", "fp8"),
    "compute__precision": ("bf16", "fp8"),
    "compute__vae_precision": ("fp32", "bf16"),
    "compute__memory": ("high", "12gb", "0gb"),
    "server__headers": ("Name: value", "none", "a:b\nc:d"),
    "preset": ("quick", "balanced", "high", "long"),
    "progress": ("bar", "lines", "json", "none"),
    "older_than": ("0s", "7d", "1e9w", "99999999999999d"),
    "name": ("rife", "s2v-fp8", "none"),
}
"""Values that fit, or nearly so, by parameter."""

SERVERS: Final = frozenset({("serve",), ("studio",)})
"""Commands that go on until somebody ends them, unless what they are told last is `REFUSED`."""

REFUSED: Final = ("--idle", "never")

NOT_DRAWN: Final = frozenset({"calibrate", "engine", "server__urls"})
"""The first measures the machine for a minute, the others are drawn together."""

_LETTERS: Final = st.characters(exclude_characters="\0", codec="utf-8")
_STRAY_BYTES: Final = st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)
TEXT: Final = st.text(_LETTERS | _STRAY_BYTES, max_size=12)
"""Any word of a command line; bytes that are no UTF-8 come as lone surrogates."""


_MOSTLY: Final = st.sampled_from([True] * 4 + [False])
_RARELY: Final = st.sampled_from([False] * 19 + [True])


def values(parameter: Any) -> st.SearchStrategy[str]:
    """Values of a parameter, most of them such as it may have: what is wrong in many ways is refused for the first."""
    anything = st.one_of(st.sampled_from(FILES), st.sampled_from(NO_FILES), st.sampled_from(NUMBERS), TEXT)
    fitting = (*PATHS.get(parameter.name, ()), *WORDS.get(parameter.name, ()))
    if parameter.name in PATHS:
        anything = st.one_of(st.sampled_from(FILES), st.sampled_from(NO_FILES), TEXT.filter(_stays_here))
    return _MOSTLY.flatmap(lambda fits: st.sampled_from(fitting) if fits and fitting else anything)


@dataclass(frozen=True, kw_only=True)
class CommandLine:
    """What is typed after `soundreel`, and what the words of it are."""

    words: tuple[str, ...]
    given: tuple[tuple[str, str], ...]  # (name of a parameter, value)

    def values(self, names: Container[str]) -> list[str]:
        """Those given to parameters of these names."""
        return [value for name, value in self.given if name in names]


@st.composite
def command_lines(draw: st.DrawFn, closed_url: str) -> CommandLine:
    """Any line; `closed_url` is of a server that does not answer, for engines that look for one."""
    command = draw(st.sampled_from(_OFTEN + list(COMMANDS)))
    parameters = [parameter for parameter in COMMANDS[command] if parameter.name not in NOT_DRAWN]
    options = [parameter for parameter in parameters if parameter.param_type_name == "option"]
    arguments = [parameter for parameter in parameters if parameter not in options and not draw(_RARELY)]
    places = [
        (argument.name, draw(values(argument)))
        for argument in arguments
        for _ in range(draw(st.integers(1, 3)) if argument.nargs == -1 else 1)
    ]
    chosen = [(option, draw(values(option))) for option in draw(st.lists(st.sampled_from(options), max_size=7))]
    spelled = [word for option, value in chosen for word in draw(_spelled(option, value))]
    odd = [draw(st.sampled_from(("--bogus", "--", "-x", "--help", "extra")))] if draw(_RARELY) else []
    rest = [*_base(draw, command, closed_url), *spelled, *(REFUSED if command in SERVERS else ()), *odd]
    named = [value for _, value in places]
    words = [*command, *named, *rest] if draw(st.booleans()) else [*command, *rest, *named]
    return CommandLine(words=tuple(words), given=(*places, *((option.name, value) for option, value in chosen)))


_OFTEN: Final = [("generate",)] * 8 + [("plan",), ("interpolate",), ("reprint",), ("redo",), ("resume",)] * 2


def _base(draw: st.DrawFn, command: tuple[str, ...], closed_url: str) -> list[str]:
    """What keeps a render small and off the servers of this machine; most of it may be overridden by what follows."""
    if command == ("demo",):
        return ["--frames", "1"]
    if command not in {("generate",), ("plan",)}:
        return []
    engine = draw(st.sampled_from(["draft"] * 12 + ["auto", "comfyui", "native"]))
    server = ["--url", closed_url] if engine in {"auto", "comfyui"} else []
    return [*TINY[2:], "--engine", engine, *server]


@st.composite
def _spelled(draw: st.DrawFn, option: Any, value: str) -> list[str]:
    """An option and its value in one of the ways in which they can be written."""
    name = draw(st.sampled_from([*option.opts, *option.secondary_opts]))
    if name.startswith("--") and draw(_RARELY):
        name = "--" + name[2:].replace("-", "_")
    if option.is_flag:
        return [name]
    return [f"{name}={value}"] if name.startswith("--") and draw(st.booleans()) else [name, value]


def _stays_here(path: str) -> bool:
    """Whether a path leads nowhere outside the folder: what is drawn may be written and removed."""
    return not path.startswith(("/", "~")) and ".." not in path
