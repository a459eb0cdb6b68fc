"""--seeds: one video for each of several seeds."""

import dataclasses
from pathlib import Path
from typing import Annotated, Final

import typer

from soundreel.errors import InputError
from soundreel.request import Request

SEEDS: Final = Annotated[
    str | None,
    typer.Option(
        "--seeds",
        help="Several seeds in place of --seed, as 1,2,3: a video for each.",
        metavar="<int>,...",
        rich_help_panel="Model",
        show_default=False,
    ),
]


def listed(seeds: str) -> list[str]:
    """The numbers of a list as 1,2,3."""
    numbers = [word.strip() for word in seeds.split(",")]
    for number in numbers:
        if not number.removeprefix("-").isdecimal():
            raise InputError(f"--seeds is {seeds!r}: expected whole numbers and commas, as 1,2,3", field="seed")
        if number != "-1" and numbers.count(number) > 1:
            raise InputError(f"--seeds has {number} twice: one seed makes one video", field="seed")
    return numbers


def named_by_seed(request: Request) -> Request:
    """With its seed in the video's name, which is otherwise the same for all."""
    output, tag = request.output, f"seed{request.seed}"
    if output.path is not None:
        path = Path(output.path)
        return request.replace(output=dataclasses.replace(output, path=str(path.with_stem(f"{path.stem}_{tag}"))))
    settings = "-".join(filter(None, (output.settings, tag)))
    return request.replace(output=dataclasses.replace(output, settings=settings))
