"""Soundreel's nodes for ComfyUI: by the node API, and in a real ComfyUI with `make test-comfyui-nodes COMFYUI=DIR`."""

import importlib.util
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest

from comfyui_server import graphs, read_label
from command import REPO
from soundreel.engines.comfyui.answers import State, node_classes
from soundreel.engines.comfyui.client import Client
from soundreel.engines.comfyui.editor_files import to_graph
from soundreel.engines.comfyui.graph import LARGEST_BATCH
from soundreel.errors import InputError
from soundreel.media.audio import probe_sound, stream_sound
from soundreel.media.video import probe_video, read_frames
from soundreel.request import Server
from soundreel.version import __version__

torch = pytest.importorskip("torch")

PACK = REPO / "comfyui"
EXAMPLE = REPO / "examples" / "comfyui_song_to_video.json"

COMFYUI = os.environ.get("COMFYUI")
"""Folder of a ComfyUI; its Python and further arguments in COMFYUI_PYTHON and COMFYUI_ARGUMENTS."""


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The nodes, with the folders that ComfyUI's own module names."""
    for name in ("input", "output"):
        (tmp_path / name).mkdir()

    def save_path(prefix: str, folder: str, *_: int) -> tuple[str, str, int, str, str]:
        subfolder, _, stem = prefix.rpartition("/")
        place = Path(folder) / subfolder
        place.mkdir(parents=True, exist_ok=True)
        return str(place), stem, len(list(place.iterdir())) + 1, subfolder, prefix

    folders = SimpleNamespace(
        get_input_directory=lambda: str(tmp_path / "input"),
        get_output_directory=lambda: str(tmp_path / "output"),
        get_annotated_filepath=lambda name: str(tmp_path / "input" / name),
        exists_annotated_filepath=lambda name: (tmp_path / "input" / name).is_file(),
        get_save_image_path=save_path,
    )
    monkeypatch.setitem(sys.modules, "folder_paths", folders)
    name = "custom_nodes_soundreel"
    spec = importlib.util.spec_from_file_location(name, PACK / "__init__.py", submodule_search_locations=[str(PACK)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    yield module
    for loaded in [loaded for loaded in sys.modules if loaded.startswith(f"{name}.")]:
        del sys.modules[loaded]


def audio_of(seconds: float, rate: int = 8000) -> dict[str, Any]:
    """Numbered samples in two channels."""
    samples = torch.arange(round(seconds * rate), dtype=torch.float32) / 1e6
    return {"waveform": torch.stack([samples, -samples])[None], "sample_rate": rate}


def expanded(pack: ModuleType, sound_seconds: float, **other: Any) -> tuple[graphs.Graph, Any]:
    """The nodes that a song becomes, and its results."""
    node = pack.NODE_CLASS_MAPPINGS["SoundreelSongToVideo"]
    described = node.INPUT_TYPES()
    given = {name: spec[1]["default"] for name, spec in described["required"].items() if "default" in spec[-1]}
    links = {name: [name, 0] for name in ("model", "clip", "vae", "audio_encoder")}
    inputs = {"sound": ["song", 0]}
    dynprompt = SimpleNamespace(get_node=lambda node_id: {"7": {"inputs": inputs}}[node_id])
    given |= {"width": 64, "height": 64}
    made = node().expand(sound=audio_of(sound_seconds), unique_id="7", dynprompt=dynprompt, **(given | links | other))
    return made["expand"], made["result"]


def shown(graph: graphs.Graph, link: list[Any]) -> list[int]:
    """The labels of pictures, of batches put together too."""
    node = graph[link[0]]
    if node["class_type"] == "ImageBatch":
        return [label for name in ("image1", "image2") for label in shown(graph, node["inputs"][name])]
    return graphs.labels(graph, link)


class TestSongToVideo:
    @pytest.mark.parametrize("seconds", [0.5, 1.0, 5.0, 5.01, 12.3, 60.0])
    def test_as_many_pictures_as_the_sound_needs_each_with_its_own_sound(
        self, pack: ModuleType, seconds: float
    ) -> None:
        graph, (pictures, sound, frames) = expanded(pack, seconds)
        assert frames == math.ceil(seconds * 16)
        assert shown(graph, pictures) == list(range(frames))
        fitted = graph[sound[0]]
        assert fitted["inputs"] == {"sound": ["song", 0], "start": 0.0, "seconds": frames / 16}
        lengths = {node["inputs"]["length"] for node in graph.values() if "Wan" in node["class_type"]}
        assert len(lengths) == 1
        heard = [node["inputs"]["seconds"] for node in graph.values() if node["class_type"] == "SoundreelFitSound"]
        assert max(heard) >= frames / 16 + 0.04 - 1e-9

    def test_a_length_that_is_asked_for(self, pack: ModuleType) -> None:
        graph, (pictures, _, frames) = expanded(pack, 60.0, seconds=7.0)
        assert frames == 112
        assert shown(graph, pictures) == list(range(112))

    def test_all_that_it_is_linked_to(self, pack: ModuleType) -> None:
        graph, _ = expanded(pack, 12.0, ref_image=["picture", 0], seed=5, shift=7.0, first_frame_fix=False)
        outside = {
            tuple(value)
            for node in graph.values()
            for value in node["inputs"].values()
            if isinstance(value, list) and value[0] not in graph
        }
        assert outside == {(name, 0) for name in ("model", "clip", "vae", "audio_encoder", "song", "picture")}
        samplers = [node["inputs"] for node in graph.values() if node["class_type"] == "KSampler"]
        assert [sampler["seed"] for sampler in samplers] == [5, 6, 7]
        assert all(node_id.startswith("7.") for node_id in graph)
        assert [node["inputs"]["shift"] for node in graph.values() if "shift" in node["inputs"]] == [7.0]

    def test_a_storyboard_cuts_and_continues(self, pack: ModuleType) -> None:
        board = [
            {"start": 0, "prompt": "a fox"},
            {"start": 4, "prompt": "a hare", "cut": "continue"},
            {"start": 8, "prompt": "the sea", "seed": 90},
        ]
        graph, (pictures, _, frames) = expanded(pack, 12.0, storyboard=json.dumps(board))
        assert frames == 192
        starts = [node["inputs"]["start"] for node in graph.values() if node["class_type"] == "SoundreelFitSound"]
        assert sorted(starts) == [0.0, 0.0, 8.0]
        second = shown(graph, graph[pictures[0]]["inputs"]["image2"])
        assert second == list(range(64))
        assert shown(graph, graph[pictures[0]]["inputs"]["image1"]) == list(range(128))
        words = {node["inputs"]["text"] for node in graph.values() if node["class_type"] == "CLIPTextEncode"}
        assert {"a fox", "a hare", "the sea"} < words

    @pytest.mark.parametrize(
        ("board", "says"),
        [
            ("{", "not JSON"),
            ("{}", "no list of shots"),
            ('[{"colour": 1}]', "a shot has colour"),
            ('[{"cut": "x"}]', "cut"),
        ],
    )
    def test_a_storyboard_that_is_none(self, pack: ModuleType, board: str, says: str) -> None:
        with pytest.raises(InputError, match=says):
            expanded(pack, 5.0, storyboard=board)

    def test_more_than_a_prompt_can_have(self, pack: ModuleType) -> None:
        with pytest.raises(InputError, match=f"one prompt can have {LARGEST_BATCH}"):
            expanded(pack, LARGEST_BATCH / 16 + 1)

    @pytest.mark.parametrize(("start", "seconds"), [(0.0, 1.0), (1.5, 1.0), (1.5, 0.25), (3.0, 0.5)])
    def test_a_sound_is_fitted_to_the_sample(self, pack: ModuleType, start: float, seconds: float) -> None:
        whole = audio_of(2.0)
        (fitted,) = pack.NODE_CLASS_MAPPINGS["SoundreelFitSound"]().fit(whole, start, seconds)
        first, count = round(start * 8000), round(seconds * 8000)
        part = whole["waveform"][..., first : first + count]
        assert fitted["waveform"].shape == (1, 2, count)
        assert torch.equal(fitted["waveform"][..., : part.shape[-1]], part)
        assert not fitted["waveform"][..., part.shape[-1] :].any()


class TestSoundAndVideo:
    def test_a_window_is_the_sound_itself(self, pack: ModuleType, tune: Path, tmp_path: Path) -> None:
        shutil.copy(tune, tmp_path / "input" / "song.flac")
        node = pack.NODE_CLASS_MAPPINGS["SoundreelLoadSoundWindow"]
        assert node.INPUT_TYPES()["required"]["audio"][0] == ["song.flac"]
        assert node.VALIDATE_INPUTS("song.flac") is True
        assert "no 'other.flac'" in node.VALIDATE_INPUTS("other.flac")
        sound, seconds = node().load("song.flac", 1.25, 0.5)
        expected = np.concatenate(list(stream_sound(tune, start=1.25, seconds=0.5)))
        assert np.array_equal(sound["waveform"][0].numpy().T, expected)
        assert sound["sample_rate"] == probe_sound(tune).sample_rate
        assert seconds == pytest.approx(0.5, abs=1e-4)
        with pytest.raises(InputError, match="there is no sound from 999"):
            node().load("song.flac", 999.0, 0.0)

    @pytest.mark.parametrize("has_sound", [True, False])
    @pytest.mark.parametrize("sound_seconds", [0.5, 5.0])
    def test_pictures_and_sound_of_one_length(
        self, pack: ModuleType, tmp_path: Path, has_sound: bool, sound_seconds: float
    ) -> None:
        pictures = torch.from_numpy(np.stack([graphs.draw(label, 64, 64) for label in range(20)]) / 255).float()
        sound = {"sound": audio_of(sound_seconds, 44100)} if has_sound else {}
        node = pack.NODE_CLASS_MAPPINGS["SoundreelSaveVideoExact"]()
        saved = node.save(
            pictures, 16, 18, "video/mine", prompt={"1": {}}, extra_pnginfo={"workflow": {"a": 1}}, **sound
        )
        path = tmp_path / "output" / "video" / "mine_00001_.mp4"
        assert saved == {
            "ui": {
                "images": [{"filename": path.name, "subfolder": "video", "type": "output"}],
                "animated": (True,),
            },
            "result": (str(path),),
        }
        video = probe_video(path)
        assert [read_label(frame) for frame in read_frames(path)] == list(range(20))
        assert (json.loads(video.metadata["prompt"]), json.loads(video.metadata["workflow"])) == ({"1": {}}, {"a": 1})
        assert video.sound_seconds == (pytest.approx(20 / 16, abs=1e-3) if has_sound else None)
        assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_pack_says_what_the_registry_asks_for() -> None:
    described = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))
    assert described["project"]["version"] == __version__
    assert described["project"]["dependencies"] == ["soundreel"]
    assert described["tool"]["comfy"].keys() >= {"PublisherId", "DisplayName"}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """URL of a ComfyUI that has the nodes, and its output folder."""
    if COMFYUI is None:
        pytest.skip("no ComfyUI: COMFYUI is not set")
    folder = tmp_path_factory.mktemp("comfyui")
    for name in ("custom_nodes", "input", "output", "temp", "user"):
        (folder / name).mkdir()
    (folder / "custom_nodes" / "soundreel").symlink_to(PACK)
    for name in ("tune.flac", "cover.png"):
        shutil.copy(REPO / "examples" / name, folder / "input")
    paths = folder / "paths.yaml"
    paths.write_text(f"soundreel:\n  base_path: {folder}\n  custom_nodes: custom_nodes\n", encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    places = [f"--{name}-directory={folder / name}" for name in ("input", "output", "temp", "user")]
    command = [
        *(os.environ.get("COMFYUI_PYTHON", sys.executable), "main.py", "--cpu", "--port", str(port)),
        *(*places, "--extra-model-paths-config", str(paths), *os.environ.get("COMFYUI_ARGUMENTS", "").split()),
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPO / "src"), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=COMFYUI, env=environment, stdout=log, stderr=log)
        try:
            _wait_for_server(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}", folder / "output"
        finally:
            process.terminate()
            process.wait()


def _wait_for_server(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while True:
        assert process.poll() is None, "ComfyUI has ended"
        assert time.monotonic() < deadline, "ComfyUI does not start"
        try:
            httpx.get(f"{url}/system_stats", timeout=5)
        except httpx.TransportError:
            time.sleep(0.5)
        else:
            return


class TestInRealComfyUI:
    BOARD = json.dumps(
        [{"start": 0}, {"start": 0.5, "cut": "continue", "prompt": "a hare"}, {"start": 1.0, "prompt": "the sea"}]
    )

    @pytest.mark.parametrize(("seconds", "frames", "board"), [(0.5, 8, ""), (1.2, 20, ""), (1.5, 24, BOARD)])
    def test_the_example_runs(self, real: tuple[str, Path], seconds: float, frames: int, board: str) -> None:
        """Chunks of 8 pictures: one; three, the last one's surplus cut; shots, with a hard cut before the third."""
        url, output = real
        with Client(url, Server()) as client:
            nodes = client.node_classes()
            graph = to_graph(json.loads(EXAMPLE.read_text(encoding="utf-8")), nodes)
            song = next(node for node in graph.values() if node["class_type"] == "SoundreelSongToVideo")
            song["inputs"].update(width=64, height=64, seconds=seconds, steps=2, chunk_frames=8, storyboard=board)
            saver = next(node for node in graph.values() if node["class_type"] == "SoundreelSaveVideoExact")
            saver["inputs"]["filename_prefix"] = f"video/nodes_{frames}"
            prompt_id = str(uuid4())
            client.queue_prompt(graph, prompt_id=prompt_id, client_id=uuid4().hex, preview=False)
            deadline = time.monotonic() + 300
            while (status := client.status(prompt_id)).state is not State.DONE:
                assert time.monotonic() < deadline, "it never ends"
                time.sleep(0.2)
        assert status.entry is not None
        assert status.entry["status"]["status_str"] == "success", status.entry["status"]
        video = probe_video(output / "video" / f"nodes_{frames}_00001_.mp4")
        assert (video.frames, video.fps, video.width, video.height) == (frames, 16, 64, 64)
        assert video.sound_seconds == pytest.approx(frames / 16, abs=1e-3)
        assert "prompt" in video.metadata


def test_the_example_fits_the_nodes(pack: ModuleType) -> None:
    """Every widget of ours in the example has its place."""
    described = {
        name: {
            "input": {"required": {}, "optional": {}, **_plain(node.INPUT_TYPES())},
            "output": list(node.RETURN_TYPES),
        }
        for name, node in pack.NODE_CLASS_MAPPINGS.items()
    }
    graph = to_graph(json.loads(EXAMPLE.read_text(encoding="utf-8")), node_classes(described))
    song = next(node["inputs"] for node in graph.values() if node["class_type"] == "SoundreelSongToVideo")
    required = pack.NODE_CLASS_MAPPINGS["SoundreelSongToVideo"].INPUT_TYPES()["required"]
    assert required.keys() <= song.keys()
    assert (song["width"], song["height"], song["seconds"], song["solver"], song["chunk_frames"]) == (
        832,
        480,
        10.0,
        "unipc",
        80,
    )


def _plain(inputs: dict[str, Any]) -> dict[str, Any]:
    """As /object_info has it."""
    return {
        group: {name: list(spec) for name, spec in inputs.get(group, {}).items()} for group in ("required", "optional")
    }
