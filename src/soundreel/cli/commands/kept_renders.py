"""Commands on renders that are under way or kept: go on, draw again, print again, list, remove."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from soundreel.cli.command_options import AS_JSON, TRUST_FOLDER, WHERE_KEPT, WHOLE_NUMBER, option
from soundreel.cli.commands.rendering import render
from soundreel.cli.display import DisplayOptions
from soundreel.cli.display_options import takes_display, takes_verbosity
from soundreel.cli.options import takes_encoding, whole_number
from soundreel.cli.streams import say
from soundreel.request import Request, is_storyboard


@takes_display
def resume(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="A work folder, a plan in it, or a folder with one render under way.")
    ],
    trust_folder: Annotated[bool, TRUST_FOLDER] = False,
    *,
    display: DisplayOptions,
) -> None:
    """Go on with an interrupted render."""
    from soundreel.render.unfinished import load_render

    request, work = load_render(folder, is_trusted=trust_folder)
    if trust_folder and not display.is_silent:
        _show_places(request)
    render(request, display, work=work)


@takes_display
def redo(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DIR|VIDEO|STORYBOARD",
            help="A work folder, a plan in it, a video whose work folder is kept, or a storyboard: its newest render.",
        ),
    ],
    what: Annotated[
        str, typer.Argument(metavar="SHOT|NUMBER", help="Name of a shot or a section, or number of a clip, from 1.")
    ],
    seed: Annotated[
        str | None,
        option("--seed", help="Of the first clip (default: one it has not had).", metavar=WHOLE_NUMBER),
    ] = None,
    take: Annotated[
        str | None,
        option(
            "--take", help="Of a storyboard's renders that one, from 1 (default: the newest).", metavar=WHOLE_NUMBER
        ),
    ] = None,
    work_dir: Annotated[str | None, WHERE_KEPT] = None,
    output: Annotated[
        str | None,
        option("--output", "-o", help="Name of the new video (default: _take2, …)."),
    ] = None,
    trust_folder: Annotated[bool, TRUST_FOLDER] = False,
    *,
    display: DisplayOptions,
) -> None:
    """Draw a shot or a clip of a kept or unfinished render again, and what depends on it; the earlier video stays."""
    from soundreel.render.unfinished import load_redo

    request, work = load_redo(
        source,
        whole_number(what, "clip") if what.lstrip("+-").isdecimal() else what,
        seed=whole_number(seed, "seed"),
        take=whole_number(take, "take"),
        work_dir=work_dir,
        output=output,
        is_trusted=trust_folder,
    )
    if is_storyboard(source) and not display.is_silent:
        say(f"of {source} this render is taken: {request.output.path or work.work_dir}")
    if trust_folder and not display.is_silent:
        _show_places(request)
    render(request, display, work=work)


@takes_encoding
@takes_display
def reprint(
    source: Annotated[
        str,
        typer.Argument(metavar="DIR|VIDEO", help="A work folder, a plan in it, or a video whose work folder is kept."),
    ],
    encoding: Mapping[str, Any],
    output: Annotated[
        str | None,
        option("--output", "-o", help="Name of the new video (default: _print2, …)."),
    ] = None,
    work_dir: Annotated[str | None, WHERE_KEPT] = None,
    trust_folder: Annotated[bool, TRUST_FOLDER] = False,
    *,
    display: DisplayOptions,
) -> None:
    """Print a kept render again, encoded otherwise: never a pass of the model. The earlier video stays."""
    from soundreel.render.unfinished import load_reprint

    request, work = load_reprint(source, encoding, work_dir=work_dir, output=output, is_trusted=trust_folder)
    if trust_folder and not display.is_silent:
        _show_places(request)
    render(request, display, work=work)


@takes_verbosity
def unfinished(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where to look, folders in it included.")] = ".",
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """List unfinished renders, how far they are, and how to go on."""
    from soundreel.cli import reports
    from soundreel.render.stored_renders import find_renders

    reports.show(reports.describe_renders(find_renders(folder)), as_json=as_json)


@takes_verbosity
def clean(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where to look, folders in it included.")] = ".",
    everything: Annotated[bool, typer.Option("--all", help="Those of unfinished renders, too.")] = False,
    older_than: Annotated[
        str | None,
        option("--older-than", help="Only what is so old: 7d, 12h.", metavar="<time>"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Remove the work folders of finished renders: what redo and reprint need. Videos stay."""
    from soundreel.cli import reports
    from soundreel.render import cleaning

    age = None if older_than is None else cleaning.parse_age(older_than)
    cleaned = cleaning.clean(folder, unfinished=everything, older_than=age, dry_run=dry_run)
    reports.show(reports.describe_cleaning(cleaned, dry_run=dry_run), as_json=as_json)


def _show_places(request: Request) -> None:
    """Say which files and servers of a folder are followed, before any of them is."""
    from soundreel.render.named_places import named_places

    say(f"from the folder: {named_places(request)}")
