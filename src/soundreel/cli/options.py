"""Options become a `Request`: each field's option follows from its declaration in `soundreel.request`."""

import dataclasses
import inspect
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import reduce
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, overload

import typer

from soundreel.cli.display import Style
from soundreel.cli.seeds import SEEDS, listed, named_by_seed
from soundreel.cli.streams import say
from soundreel.errors import InputError
from soundreel.request import PICTURE, WHAT, EngineName, Request, Server, grouped, is_storyboard, members
from soundreel.request.fields import Field, Role, Seconds, fields_of, without_password
from soundreel.request.presets import MOODS, PRESETS, mood, preset

AUDIO: Final = Annotated[
    str | None,
    typer.Argument(
        help="Any file with sound in it: mp3, wav, flac, m4a, ogg, opus, wma, a video. With --recipe not needed.",
        metavar="AUDIO",
        show_default=False,
    ),
]

AUDIOS: Final = Annotated[
    list[str] | None,
    typer.Argument(
        help="Any file with sound in it: mp3, wav, flac, m4a, ogg, opus, wma, a video. Several become a video "
        "each. With --recipe not needed.",
        metavar="AUDIO...",
        show_default=False,
    ),
]

PANELS: Final = (WHAT, "Length", PICTURE, "Model", "Speed (native)", "ComfyUI server", "Output")
"""Panels of the help, in their order."""

ANOTHER_AUDIO: Final = Annotated[
    str | None, typer.Option("--audio", help="The same as AUDIO.", rich_help_panel=WHAT, show_default=False)
]

INPUTS: Final = Annotated[
    list[str] | None,
    typer.Option(
        "--inputs",
        help="Folder with the files that the recipe names; several times if need be (default: where they were used "
        "before, beside the video, here).",
        metavar="DIR",
        rich_help_panel=WHAT,
        show_default=False,
    ),
]

TRUST_RECIPE: Final = Annotated[
    bool,
    typer.Option(
        "--trust-recipe",
        help="Follow the paths and servers in the recipe, too; they are shown first. For videos of your own.",
        rich_help_panel=WHAT,
    ),
]

METAVARS: Final[Mapping[Any, str]] = {int: "<int>", float: "<float>", Seconds: "<time>"}


def _kind(hint: Any) -> Any:
    """`hint` without None: X for `X | None`."""
    if get_origin(hint) in (Union, UnionType):
        return _kind(next(kind for kind in get_args(hint) if kind is not NoneType))
    return hint


def _default(field: Field) -> str:
    if _can_only_be_turned_off(field):
        return ""
    says = field.option.default_says
    value = field.default[0] if isinstance(field.default, tuple) and field.default else field.default
    if not says and value is not None and value is not False and value != () and value is not dataclasses.MISSING:
        says = "yes" if value is True else f"{value:g}" if isinstance(value, float) else str(value)
    return f" (default {says})" if says else ""


def _can_only_be_turned_off(field: Field) -> bool:
    return len(field.option.flags) == 1 and field.option.flags[0].startswith("no-")


def _typer_option(field: Field) -> Any:
    """The typer option of a field. Its value is None unless given; all but switches stay text, parsed by `Request`."""
    declared, kind = field.option, _kind(field.hint)
    flags = declared.flags or (field.leaf.replace("_", "-"),)
    names = [f"-{flag}" if len(flag) == 1 else f"--{flag}" for flag in flags]
    is_repeated = get_origin(kind) is tuple and declared.flags and not field.leaf.endswith(("sigmas", "interval"))
    if kind is bool and len(flags) == 2:
        names = ["/".join(names)]
    elif _can_only_be_turned_off(field):
        names = [f" /{names[0]}"]  # as typer writes a switch that can only be turned off
    option = typer.Option(
        *names,
        help=f"{declared.help}{_default(field)}.",
        rich_help_panel=declared.panel,
        show_default=False,
        metavar=_metavar(kind),
        autocompletion=_starting(kind) if _is_enumeration(kind) else None,
    )
    return Annotated[list[str] if is_repeated else bool if kind is bool else str, option]


def _metavar(kind: Any) -> str | None:
    return f"[{'|'.join(kind)}]" if _is_enumeration(kind) else METAVARS.get(kind)


def _is_enumeration(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, StrEnum)


def _starting(values: Iterable[str]) -> Callable[[str], list[str]]:
    """What a shell completes a word to: those of `values` that start with it."""
    return lambda incomplete: [str(value) for value in values if value.startswith(incomplete)]


def _options() -> dict[str, Any]:
    declared = [field for field in fields_of(Request) if field.option.panel]
    by_panel = {panel: [field for field in declared if field.option.panel == panel] for panel in PANELS}
    options = {key_of(field): _typer_option(field) for fields in by_panel.values() for field in fields}
    return options | {
        "preset": _shorthand("preset", "Length, size, steps and guidance; single options win over it.", WHAT, PRESETS),
        "mood": _shorthand(
            "mood", "A prompt for this kind of sound, in place of --prompt (default music).", WHAT, MOODS
        ),
        "size": _shorthand("size", "WIDTHxHEIGHT (or WIDTH*HEIGHT) in one word.", PICTURE),
    }


def _shorthand(name: str, text: str, panel: str, choices: Collection[str] = ()) -> Any:
    """The typer option of a word that stands for fields of `Request`."""
    option = typer.Option(
        f"--{name}",
        help=text,
        metavar=f"[{'|'.join(choices)}]" if choices else None,
        rich_help_panel=panel,
        show_default=False,
        autocompletion=_starting(choices) if choices else None,
    )
    return Annotated[str, option]


def key_of(field: Field) -> str:
    """A field's name as a Python identifier."""
    return field.name.replace(".", "__")


OPTIONS: Final = _options()
"""Options of `generate` and `plan` by parameter name: the fields of `Request`, --preset, --mood and --size."""

ENCODING_OPTIONS: Final = {
    field.leaf: OPTIONS[key_of(field)] for field in fields_of(Request) if field.option.role is Role.ENCODING
}
"""Those that change nothing but how pictures are post-processed and encoded."""

RECIPE_OPTIONS: Final[Mapping[str, Any]] = {"inputs": INPUTS, "trust_recipe": TRUST_RECIPE}
"""How a recipe is read."""

LENGTHS: Final = ("window__frames", "window__duration", "window__full", "window__num_clip")
"""Options of which any replaces all the others in a recipe."""


def build_request(
    audio: str | None, *, inputs: Sequence[str] | None = None, trust_recipe: bool = False, **options: Any
) -> Request:
    """A `Request` from the values of `OPTIONS`: the recipe's, overridden by the preset's, overridden by single ones."""
    given = {name: value for name, value in options.items() if value is not None}
    if audio is not None:
        given["audio"] = audio
    if "recipe" not in given and (inputs or trust_recipe):
        raise InputError(
            "--inputs and --trust-recipe say how a recipe is read: name a finished video with --recipe", field="recipe"
        )
    if "mood" in given:
        given |= _prompt_of(given.pop("mood"), given)
    fields = _begun_with(audio, given, inputs or (), trust_recipe)
    if "preset" in given:
        fields = grouped(preset(given.pop("preset")), fields)
    if "size" in given:
        given = parse_size(given.pop("size")) | given
    if "seed" in given:
        given["seed"] = draw_seed(given["seed"])
    if "server__urls" in given:
        given.setdefault("engine", EngineName.COMFYUI)
    if "window__num_clip" in given and not given.keys() & {"window__frames", "window__duration"}:
        given["window__full"] = True  # else the default length would limit the clips
    if "audio" not in fields | given:
        raise InputError("there is no sound: give a file, or with --recipe a finished video", field="audio")
    return Request(**reduce(_put, given.items(), fields))


def _begun_with(audio: str | None, given: dict[str, Any], inputs: Sequence[str], is_trusted: bool) -> dict[str, Any]:
    """The fields that options are put over: those of a recipe, or of a storyboard in the sound's place."""
    if is_storyboard(audio):
        return _from_storyboard(given)
    return _from_recipe(given, inputs, is_trusted) if "recipe" in given else {}


def build_requests(sounds: Sequence[str | None], seeds: str | None = None, **options: Any) -> list[Request]:
    """A request for each sound and each of the `seeds`, a list as 1,2,3; else as `build_request`."""
    if len(sounds) > 1 and options.get("output__path") is not None:
        raise InputError(
            f"--output names one video, and there are {len(sounds)} sounds: name a folder with --output-dir",
            field="output.path",
        )
    if seeds is None:
        return [build_request(audio, **options) for audio in sounds]
    if options.get("seed") is not None:
        raise InputError("--seed and --seeds both say the seed: give one of them", field="seed")
    return [
        named_by_seed(build_request(audio, **options | {"seed": seed})) for audio in sounds for seed in listed(seeds)
    ]


def _prompt_of(name: str, given: Mapping[str, Any]) -> dict[str, str]:
    """The prompt that a mood stands for."""
    if "prompt" in given:
        raise InputError("--prompt and --mood are two prompts: give one of them", field="prompt")
    return {"prompt": mood(name)}


def _put(fields: dict[str, Any], item: tuple[str, Any]) -> dict[str, Any]:
    """`fields` of `Request` with one more value; `item` is its name in `OPTIONS` and the value."""
    group, _, leaf = item[0].rpartition("__")
    if not group:
        return fields | {leaf: item[1]}
    held = fields.get(group, {})
    return fields | {group: {**members(held), leaf: item[1]}}


def _from_recipe(given: Mapping[str, Any], inputs: Sequence[str], is_trusted: bool) -> dict[str, Any]:
    """The fields of a finished video's request, without those that depend on options that are `given` anew."""
    from soundreel.render.recipe import request_fields

    named = _by_field(given)
    fields = request_fields(given["recipe"], given=named, folders=inputs, is_trusted=is_trusted)
    urls = fields["server"].urls
    if given.get("server__headers") and "server.urls" not in named and urls != Server().urls:
        raise InputError(
            f"a --header goes only to servers that you name, and {', '.join(map(without_password, urls))} is from the "
            "recipe: give it with --url, too, or leave --header out",
            field="server.headers",
        )
    is_other_length = bool(given.keys() & set(LENGTHS))
    if is_other_length:
        fields["window"] = dataclasses.replace(fields["window"], frames=None, duration=None, full=False, num_clip=None)
        fields.pop("cuts", None)
    if is_other_length or given.keys() & {"seed", "sampling__infer_frames", "sampling__clip_split", "cuts"}:
        fields.pop("clip_seeds", None)
    return fields


def _from_storyboard(given: dict[str, Any]) -> dict[str, Any]:
    """The fields that a storyboard stands for, in place of the sound; without its length where another one is given."""
    from soundreel.storyboard import read_storyboard

    if "recipe" in given:
        raise InputError("a storyboard and --recipe both say what to render: give one of them", field="recipe")
    fields = read_storyboard(given.pop("audio"))
    if given.keys() & set(LENGTHS):
        fields["window"] = {name: value for name, value in fields["window"].items() if name == "start"}
    if given.keys() & {"seed", "sampling__infer_frames", "sampling__clip_split"}:
        fields.pop("clip_seeds", None)
    return fields


def _by_field(given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of `OPTIONS` under the names of their fields."""
    return {name.replace("__", "."): value for name, value in given.items()}


def draw_seed(seed: int | str) -> int | str:
    """`seed`, or for -1 a random one, as for `--base_seed -1` of the official script.

    Raises:
        InputError: another negative number.
    """
    text = str(seed).strip()
    if text == "-1":
        return random.SystemRandom().randrange(2**31)
    if text.startswith("-") and text[1:].isdecimal():
        raise InputError(f"seed is {text}: expected at least 0, or -1 to draw one", field="seed")
    return seed


@overload
def whole_number(text: str, name: str) -> int: ...


@overload
def whole_number(text: str | None, name: str) -> int | None: ...


def whole_number(text: str | None, name: str) -> int | None:
    """The number of an option or argument that is no field; messages call it `name`."""
    try:
        return None if text is None else int(text)
    except ValueError:
        raise InputError(f"{name} is {text!r}: expected a whole number") from None


def parse_size(text: str) -> dict[str, int]:
    """`480x832` or `480*832` → {"width": 480, "height": 832}."""
    sides = text.lower().replace("*", "x").replace("×", "x").split("x")
    if len(sides) != 2 or not all(side.strip().isdecimal() for side in sides):
        raise InputError(f"--size is {text!r}: expected WIDTHxHEIGHT, for example 480x832")
    return {"width": int(sides[0]), "height": int(sides[1])}


def takes_request(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command: it gets `OPTIONS` beside its own options, and the finished request as first argument."""

    def run(audio: str | None, another_audio: str | None, **options: Any) -> None:
        wanted = _wanted(options)
        command(build_request(_one_sound(audio, another_audio), **wanted), **options)

    return _with_request(run, command, {"audio": AUDIO, "another_audio": ANOTHER_AUDIO})


def takes_requests(command: Callable[..., None]) -> Callable[..., None]:
    """As `takes_request` for several sounds and seeds: the first argument is a request for each pair of them."""

    def run(audios: list[str] | None, another_audio: str | None, seeds: str | None, **options: Any) -> None:
        wanted = _wanted(options)
        sounds = [_one_sound(audio, another_audio) for audio in audios or (None,)]
        command(build_requests(sounds, seeds, **wanted), **options)

    return _with_request(run, command, {"audios": AUDIOS, "another_audio": ANOTHER_AUDIO, "seeds": SEEDS})


def _with_request(
    run: Callable[..., None], command: Callable[..., None], first: Mapping[str, Any]
) -> Callable[..., None]:
    own = list(inspect.signature(command).parameters.values())[1:]
    parameters = [inspect.Parameter(name, KEYWORD, default=None, annotation=kind) for name, kind in first.items()]
    return _as_command(run, command, parameters, {**OPTIONS, **RECIPE_OPTIONS}, own)


def _wanted(options: dict[str, Any]) -> dict[str, Any]:
    """What `build_request` takes, out of a command's options; places that a trusted recipe names are shown."""
    wanted = {name: options.pop(name) for name in {**OPTIONS, **RECIPE_OPTIONS}}
    is_silent = options.get("quiet") or options.get("progress") is Style.NONE
    if wanted["trust_recipe"] and wanted["recipe"] is not None and not is_silent:
        _show_trusted(wanted)
    return wanted


def _one_sound(audio: str | None, another: str | None) -> str | None:
    if audio is not None and another is not None:
        raise InputError(f"there are two sounds, {audio!r} and {another!r}: give one of them", field="audio")
    return another if audio is None else audio


def _show_trusted(options: Mapping[str, Any]) -> None:
    """Say which paths and servers of a recipe are followed, before any of them is."""
    from soundreel.render.named_places import named_places
    from soundreel.render.recipe import read_recipe, stated_request

    given = _by_field({name: value for name, value in options.items() if value is not None})
    request = stated_request(read_recipe(options["recipe"]), is_trusted=True)
    places = named_places(request, but={*given, "output.path", "output.dir", "recipe"})
    say(f"from the recipe: {places}")


def takes_encoding(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `ENCODING_OPTIONS` beside its own; those that are given come as a mapping, its second argument."""
    source, _, *own = inspect.signature(command).parameters.values()

    def run(*, source: str, **options: Any) -> None:
        values = {name: options.pop(name) for name in ENCODING_OPTIONS}
        command(source, {name: value for name, value in values.items() if value is not None}, **options)

    return _as_command(run, command, [source], ENCODING_OPTIONS, own)


KEYWORD: Final = inspect.Parameter.KEYWORD_ONLY


def _as_command(
    run: Callable[..., None],
    command: Callable[..., None],
    first: Sequence[inspect.Parameter],
    options: Mapping[str, Any],
    own: Sequence[inspect.Parameter],
) -> Callable[..., None]:
    """`run` with the name and text of `command`, and all parameters as typer reads them."""
    parameters = [
        *(parameter.replace(kind=KEYWORD) for parameter in first),
        *(inspect.Parameter(name, KEYWORD, default=None, annotation=kind) for name, kind in options.items()),
        *(parameter.replace(kind=KEYWORD) for parameter in own),
    ]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run
