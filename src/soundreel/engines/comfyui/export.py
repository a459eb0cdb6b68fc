"""Export of a render for use in ComfyUI: the graph, for its editor too, and the files for the server's input folder."""

import json
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from soundreel import planning
from soundreel.disk.durable import make_folder, write_durably
from soundreel.disk.outputs import Inputs, is_folder
from soundreel.engines.comfyui.editor_layout import to_editor
from soundreel.engines.comfyui.engine import check_options
from soundreel.engines.comfyui.failures import UnreachableError
from soundreel.engines.comfyui.input_files import make_input_files, make_played_sound
from soundreel.engines.comfyui.inventory import Inventory
from soundreel.engines.comfyui.prompt import Capabilities, Prompt
from soundreel.engines.comfyui.servers import open_server
from soundreel.errors import InputError
from soundreel.media.audio import probe_sound
from soundreel.request import Request, files_read
from soundreel.units import StrPath

PREFIX = "video/soundreel"


def export_workflow(request: Request, path: StrPath) -> tuple[Path, ...]:
    """Write the graph of `request` to `path`, and beside it the same for the editor and the input files.

    The graph's video plays the original sound, and is encoded as the request says. Model names are those of the server
    where one answers, else the official ones. Nothing is rendered. Returns all paths: graph, editor's file, inputs.

    Raises:
        InputError: a server cannot render the request, it has cuts, or `path` is a folder or a file that is read.
        MediaError: unreadable media, or the files cannot be written.
    """
    check_options(request)
    target, inputs = Path(path), Inputs.of(files_read(request))
    says = f"--export-workflow is {str(target)!r}"
    if is_folder(target):
        raise InputError(f"{says}, which is a folder: name a file")
    inputs.refuse(target, f"{says}, which")
    plan = planning.plan(request, probe_sound(request.audio).seconds, equal_clips=True)
    if len(plan.chains) > 1:
        raise InputError(
            "--cut: a graph renders one shot; export each by --audio-start and --audio-duration",
            field="cuts",
        )
    with TemporaryDirectory() as scratch:
        files = make_input_files(plan, Path(scratch))
    capabilities, played = _capabilities(request), make_played_sound(plan)
    prompt = Prompt(plan=plan, files=files, capabilities=capabilities, played=played)
    graph = Inventory("", capabilities.nodes).complete(prompt.graph(PREFIX))
    beside = {
        editor_path(target): _json_bytes(to_editor(graph, capabilities.nodes)),
        **{target.parent / file.name: file.content for file in (*files, played)},
    }
    for file in beside:
        inputs.refuse(file, f"{says}, and beside it goes {file.name!r}, which")
    contents = {target: _json_bytes(graph), **beside}
    make_folder(target.parent)
    for file, content in contents.items():
        write_durably(file, partial(Path.write_bytes, data=content), needed_bytes=len(content))
    return tuple(contents)


def editor_path(path: Path) -> Path:
    """Where the editor's file goes: `graph.json` → `graph.editor.json`."""
    return path.with_name(f"{path.stem}.editor.json")


def _json_bytes(content: Any) -> bytes:
    return json.dumps(content, indent=2, ensure_ascii=False).encode()


def _capabilities(request: Request) -> Capabilities:
    try:
        with open_server(request) as server:
            return server.capabilities
    except UnreachableError:
        return Capabilities.unknown(request)
