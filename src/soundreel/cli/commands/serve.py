"""`soundreel serve`: its options become the settings of a server."""

import inspect
import os
import re
import secrets
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import platformdirs
import typer

from soundreel.cli.command_options import option
from soundreel.cli.display_options import as_command, takes_verbosity
from soundreel.cli.streams import say
from soundreel.errors import EngineError, InputError
from soundreel.request import EngineName
from soundreel.units import StrPath

if TYPE_CHECKING:
    from soundreel.server.settings import Settings

WHO, WHAT, LIMITS = "Who may ask", "What renders", "Limits"
"""Panels of the help."""

TOKEN_BYTES: Final = 32
LEAST_TOKEN: Final = 16
"""Letters of a token."""

NAMED: Final = "NAME=PATH"

PACKAGES: Final = ("starlette", "uvicorn", "python_multipart")


def settings_of(  # noqa: PLR0913, PLR0917 - options, as typer reads them
    data: Annotated[
        str | None, typer.Option("--data", help="Folder of the queue, uploads and videos.", show_default=False)
    ] = None,
    host: Annotated[
        str, option("--host", panel=WHO, help="Address to listen on; others than loopback need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, option("--port", panel=WHO, help="Port, 0 takes a free one (default 8765).")] = 8765,
    token_file: Annotated[
        str | None,
        option("--token-file", panel=WHO, help="File with the token that clients send; made if missing.", metavar="F"),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        option("--allow-host", panel=WHO, help="A name by which it may be asked, beside addresses.", metavar="NAME"),
    ] = None,
    engine: Annotated[
        list[EngineName] | None,
        option(
            "--engine",
            panel=WHAT,
            help="Only this one; several times if need be (default: all that can run).",
            metavar=f"[{'|'.join(name for name in EngineName)}]",
        ),
    ] = None,
    gpus: Annotated[
        str | None, option("--gpus", panel=WHAT, help="A worker on each: all, or which ones: 0,2.", metavar="<text>")
    ] = None,
    gpus_each: Annotated[
        int, option("--gpus-each", panel=WHAT, help="GPUs of one worker, which divide its renders (default 1).")
    ] = 1,
    device: Annotated[
        str, option("--device", panel=WHAT, help="Without --gpus: auto, cpu, cuda, cuda:1, mps.")
    ] = "auto",
    memory: Annotated[str, option("--memory", panel=WHAT, help="Of a GPU, as for generate (default auto).")] = "auto",
    models: Annotated[
        list[str] | None,
        option("--models", panel=WHAT, help="A models folder, and the name it gets.", metavar=NAMED),
    ] = None,
    lora: Annotated[
        list[str] | None, option("--lora", panel=WHAT, help="A LoRA, and the name it gets.", metavar=NAMED)
    ] = None,
    workflow: Annotated[
        list[str] | None, option("--workflow", panel=WHAT, help="A ComfyUI graph, and its name.", metavar=NAMED)
    ] = None,
    url: Annotated[
        list[str] | None, option("--url", panel=WHAT, help="A ComfyUI server: a worker for each.", metavar="URL")
    ] = None,
    header: Annotated[
        list[str] | None, option("--header", panel=WHAT, help="'Name: value' for their proxy.", metavar="<text>")
    ] = None,
    drafts: Annotated[int, option("--drafts", panel=WHAT, help="Workers that draw drafts (default 1).")] = 1,
    idle: Annotated[
        str, option("--idle", panel=LIMITS, help="After which networks are unloaded (default 10m).", metavar="<time>")
    ] = "10m",
    keep: Annotated[
        str | None,
        option("--keep", panel=LIMITS, help="Videos, after their end, as 30d (default: for ever).", metavar="<time>"),
    ] = None,
    max_jobs: Annotated[int, option("--max-jobs", panel=LIMITS, help="That wait (default 10000).")] = 10_000,
    max_upload: Annotated[
        str, option("--max-upload", panel=LIMITS, help="Size of one file (default 2gb).", metavar="<size>")
    ] = "2gb",
    max_stored: Annotated[
        str, option("--max-stored", panel=LIMITS, help="Of all uploads (default 100gb).", metavar="<size>")
    ] = "100gb",
    max_seconds: Annotated[float, option("--max-seconds", panel=LIMITS, help="Of one video (default 3600).")] = 3600.0,
    max_crashes: Annotated[
        int, option("--max-crashes", panel=LIMITS, help="Of workers with one job, then it fails (default 2).")
    ] = 2,
    keep_free: Annotated[
        str, option("--keep-free", panel=LIMITS, help="Room that stays on the disk (default 2gb).", metavar="<size>")
    ] = "2gb",
) -> "Settings":
    """What a server is told by its options.

    Raises:
        EngineError: it needs packages that are missing.
        InputError: an option is none.
    """
    _check_packages()
    from soundreel.server.offer import Offer
    from soundreel.server.settings import Limits, Settings

    offer = Offer(
        engines=engine or (),
        gpus=gpus,
        gpus_each=gpus_each,
        device=device,
        memory=memory,
        models=models or (),
        loras=lora or (),
        workflows=workflow or (),
        urls=url or (),
        drafts=drafts,
    )
    return Settings(
        data=_data_folder(data),
        host=host,
        port=port,
        token=None if token_file is None else read_token(token_file, make=True),
        allowed_hosts=tuple(allow_host or ()),
        catalogue=offer.catalogue(),
        workers=offer.workers(),
        headers=tuple(header or ()),
        idle_seconds=_seconds("--idle", idle),
        keep_seconds=None if keep is None else _seconds("--keep", keep),
        limits=Limits(
            jobs=max_jobs,
            upload_bytes=_bytes("--max-upload", max_upload),
            stored_bytes=_bytes("--max-stored", max_stored),
            seconds=max_seconds,
            free_bytes=_bytes("--keep-free", keep_free),
            crashes=max_crashes,
        ),
    )


def takes_server(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command that runs a server: it gets the settings, and has the options of `settings_of`."""
    own = set(inspect.signature(command).parameters) - {"settings"}

    def run(**options: Any) -> None:
        its = {name: options.pop(name) for name in own}
        command(settings=settings_of(**options), **its)

    told = {
        name: (parameter.default, parameter.annotation)
        for name, parameter in inspect.signature(settings_of).parameters.items()
    }
    return as_command(run, command, instead_of="settings", options=told)


@takes_verbosity
@takes_server
def serve(settings: "Settings") -> None:
    """Render for others: a queue that survives anything, models that stay loaded, an HTTP API (docs/serve.md)."""
    from soundreel.server.app import serve as run

    names = ", ".join(model.name for model in settings.catalogue.models)
    run(settings, lambda address: say(f"serving {names} at {address}, data in {settings.data}; Ctrl-C ends it"))


def _check_packages() -> None:
    """Raise `EngineError` where the packages of the extra `server` are missing."""
    missing = next((name for name in PACKAGES if find_spec(name) is None), None)
    if missing is not None:
        raise EngineError(
            f"soundreel serve needs the package {missing}: pip install '.[server]' in a clone of soundreel"
        )


def _data_folder(given: str | None) -> Path:
    """Where all of the server is kept."""
    if given is not None:
        return Path(given).absolute()
    return platformdirs.user_data_path("soundreel") / "server"


def read_token(path: StrPath, *, make: bool = False) -> str:
    """The token in a file; where there is none, and `make` is set, a new one is written into it.

    Raises:
        InputError: there is none, or it is too short to be one.
    """
    place = Path(path)
    if make and not place.exists():
        _make_token(place)
    try:
        token = place.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the token in {str(place)!r}: {getattr(error, 'strerror', None) or error}"
        ) from error
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(f"the token in {str(place)!r} is none: expected at least {LEAST_TOKEN} letters without spaces")
    return token


def _make_token(place: Path) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
    except OSError as error:
        raise InputError(f"cannot write a token into {str(place)!r}: {error.strerror}") from error
    say(f"a new token was written into {place}")


def _seconds(option: str, text: str) -> float:
    """`10m`, `30s`, `2h`, `7d` or seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip().lower())
    if found is None:
        raise InputError(f"{option} is {text!r}: expected a time as 10m, 30s, 2h or 7d")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def _bytes(option: str, text: str) -> int:
    """`2gb`, `500mb` or bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(|kb|mb|gb|tb)", text.strip().lower())
    if found is None:
        raise InputError(f"{option} is {text!r}: expected a size as 2gb or 500mb")
    return round(float(found[1]) * {"": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}[found[2]])
