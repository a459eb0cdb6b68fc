"""`soundreel batch`: its options become a batch, and what comes of it is shown."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from soundreel.cli.command_options import option
from soundreel.cli.display import DisplayOptions
from soundreel.cli.display_options import takes_display
from soundreel.cli.streams import report_data
from soundreel.errors import InputError

if TYPE_CHECKING:
    from soundreel.cli.batch_display import Totals

WHERE, ROWS = "Where it is rendered", "Rows"
"""Panels of the help."""


@takes_display
def batch(  # noqa: PLR0913, PLR0917 - options, as typer reads them
    manifest: Annotated[
        str, typer.Argument(help="Rows to render: JSON lines or CSV, the fields of a request each.", show_default=False)
    ],
    display: DisplayOptions,
    output_dir: Annotated[
        str, typer.Option("--output-dir", help="Where the videos go; all machines see it.", show_default=False)
    ] = "output/batch",
    settings: Annotated[
        list[str] | None,
        option(
            "--set", panel=ROWS, help="For rows that do not say otherwise, as output.crf=16.", metavar="FIELD=VALUE"
        ),
    ] = None,
    skip_bad: Annotated[bool, option("--skip-bad", panel=ROWS, help="Leave out rows that cannot be right.")] = False,
    tries: Annotated[
        int, option("--tries", panel=ROWS, help="Of a row, while machines fail (default 3).", metavar="<int>")
    ] = 3,
    keep_work: Annotated[
        bool | None, option("--keep-work/--no-keep-work", panel=ROWS, help="Keep clips, as of generate.")
    ] = None,
    dry_run: Annotated[
        bool, option("--dry-run", panel=ROWS, help="Show what it would make and take; render nothing.")
    ] = False,
    price: Annotated[
        float | None, option("--price", panel=ROWS, help="Of an hour of a GPU, for --dry-run.", metavar="<float>")
    ] = None,
    address: Annotated[
        str | None,
        option("--address", panel=WHERE, help="A Ray cluster: ray://HOST:10001, HOST:6379, auto.", metavar="ADDRESS"),
    ] = None,
    cpus: Annotated[
        int | None, option("--cpus", panel=WHERE, help="Of this machine (default all).", metavar="<int>")
    ] = None,
    cpus_each: Annotated[
        int, option("--cpus-each", panel=WHERE, help="For a row without a GPU (default 2).", metavar="<int>")
    ] = 2,
    gpus_each: Annotated[
        int, option("--gpus-each", panel=WHERE, help="For a row that takes GPUs (default 1).", metavar="<int>")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs, in place of names.")] = False,
) -> None:
    """Render the rows of a manifest on all devices here, or of a Ray cluster, each once (docs/fleet.md)."""
    from soundreel.batch.manifest import parse_settings
    from soundreel.batch.rows import Rows
    from soundreel.cli.batch_display import open_batch_display

    for name, number in (("--tries", tries), ("--cpus-each", cpus_each), ("--gpus-each", gpus_each), ("--cpus", cpus)):
        if number is not None and number < 1:
            raise InputError(f"{name} is {number}: expected at least 1")
    if price is not None and not 0 <= price < inf:
        raise InputError(f"--price is {price:g}: expected 0 or more, for an hour of a GPU")
    if price is not None and not dry_run:
        raise InputError("--price is for --dry-run, which tells what a batch costs: give both, or neither")
    if cpus is not None and address is not None:
        raise InputError("--cpus is of this machine alone: what a cluster has its nodes say (ray start --num-cpus)")
    defaults, output = parse_settings(settings or []), Path(output_dir).absolute()
    _check_output(output)
    shown = open_batch_display(display, names_paths=not as_json)
    with Rows() as rows:
        checked = check(manifest, defaults, rows, output, skip_bad=skip_bad, tell=shown.remark)
        if dry_run:
            from soundreel.cli.batch_plan import show_plan

            show_plan(rows, checked, output, price=price, as_json=as_json)
            return
        with shown:
            code = run(rows, checked, output, shown, address=address, cpus=cpus, tries=tries, keep_work=keep_work,
                       sizes=(gpus_each, cpus_each))  # fmt: skip
    if as_json:
        report_data(shown.summary())
    if code or checked.bad:
        raise typer.Exit(code or InputError.exit_code)


def _check_output(output: Path) -> None:
    there = next(place for place in (output, *output.parents) if place.exists())
    if not there.is_dir():
        raise InputError(f"--output-dir is {str(output)!r}: {str(there)!r} is a file, expected a folder")


def check(
    manifest: str, defaults: dict[str, Any], rows: Any, output: Path, *, skip_bad: bool, tell: Callable[[str], None]
) -> "Totals":
    """Read all of a manifest, and put aside what is to be done.

    Raises:
        InputError: rows are wrong, and are not to be left out; all of them are named.
    """
    from soundreel.batch.kept import kept_render
    from soundreel.batch.manifest import Row, Work, read_manifest
    from soundreel.batch.results import Results, is_done
    from soundreel.cli.batch_display import Totals

    noted = Results(output).done()
    total = done = bad = 0
    problems: list[str] = []
    for found in read_manifest(manifest, defaults):
        total += 1
        if not isinstance(found, Row):
            bad += 1
            problems += map(str, found)
        elif is_done(found, found.video(output), noted):
            done += 1
        else:
            rows.add(found if kept_render(found, output) is None else replace(found, work=Work.PRINT))
    if problems and not skip_bad:
        raise _refusal(manifest, problems)
    if not total:
        raise InputError(f"manifest {manifest!r} has no rows")
    for says in problems:
        tell(f"left out: {says}")
    return Totals(total=total - bad, done=done, bad=bad)


def _refusal(manifest: str, problems: list[str]) -> InputError:
    if len(problems) == 1:
        return InputError(f"manifest {manifest!r}, {problems[0]} (--skip-bad leaves this row out)")
    return InputError(
        f"manifest {manifest!r} has {len(problems)} mistakes (--skip-bad leaves these rows out):", details=problems
    )


@contextmanager
def removed_in_the_end(folder: Path) -> Iterator[None]:
    """What is only needed while a batch is under way."""
    from soundreel.render.folder_files import remove_work

    try:
        yield
    finally:
        remove_work(folder)


@contextmanager
def none_left_empty(folder: Path) -> Iterator[None]:
    """A folder that is made meanwhile, and those above it, are removed in the end where nothing is in them."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    finally:
        for place in made:  # the innermost first
            with suppress(OSError):  # something is in it, or it was not made
                place.rmdir()


def run(  # noqa: PLR0913
    rows: Any,
    totals: "Totals",
    output: Path,
    shown: Any,
    *,
    address: str | None,
    cpus: int | None,
    tries: int,
    keep_work: bool | None,
    sizes: tuple[int, int],
) -> int:
    """Render what waits; returns the exit code."""
    from soundreel.batch import cluster
    from soundreel.batch.driver import Driver
    from soundreel.batch.results import Results
    from soundreel.disk.locks import locked

    ray = cluster.import_ray(address)
    own = cluster.own_folder(output)
    alone = locked(own, what=f"a batch into {str(output)!r}", cure="name another --output-dir", below=output)
    with none_left_empty(output), alone, removed_in_the_end(own), Results(output) as results:
        if not rows.left():
            shown.begin(totals, [])
            return 0
        with cluster.opened(ray, address, cpus):
            fleet = cluster.Cluster(ray, output, cluster.Sizes(gpus=sizes[0], cpus=sizes[1]), keep_work)
            with fleet.token():
                nodes = fleet.check_nodes()
                results.open({row.id for row in rows})
                shown.begin(totals, nodes)
                driver = Driver(fleet, rows, results, shown, tries=tries)
                try:
                    driver.run(total=totals.total, done=totals.done)
                except KeyboardInterrupt as stop:
                    there = driver.standing()
                    says = f"{there.done} of {there.total} videos are there, the same command goes on with the others"
                    stop.add_note(says)
                    raise
                return driver.first_failure
