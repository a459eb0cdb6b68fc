"""Files of ComfyUI's editor: what we write opens there, and what it saves is rendered here."""

import json
import wave
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from comfyui_renders import VERSIONS, Serve, labels, nodes
from comfyui_server import ContractServer
from comfyui_server.nodes import object_info
from no_server import NO_SERVER
from soundreel.engines.comfyui.answers import NodeClasses, node_classes
from soundreel.engines.comfyui.client import Graph
from soundreel.engines.comfyui.editor_files import to_graph
from soundreel.engines.comfyui.export import export_workflow
from soundreel.engines.comfyui.official_nodes import official_nodes
from soundreel.errors import EngineError, InputError
from soundreel.media.audio import stream_sound
from soundreel.media.video import probe_video
from soundreel.pipeline import generate
from soundreel.request import Request, WorkOptions

pytest_plugins = ("comfyui_fixtures",)

pytestmark = pytest.mark.usefixtures("no_patience_wasted")

Ask = Callable[..., Request]

EXTEND = "ad3f1d6b-f6de-4f22-abcf-caeed4bf8ce4"


def by_title(graph: Graph) -> dict[str, Any]:
    """A graph whose nodes are known by their titles, as their ids do not outlive the editor."""
    title = {node_id: node["_meta"]["title"] for node_id, node in graph.items()}

    def plain(value: Any) -> Any:
        return [title[value[0]], value[1]] if isinstance(value, list) else value

    return {
        title[node_id]: (node["class_type"], {name: plain(value) for name, value in node["inputs"].items()})
        for node_id, node in graph.items()
    }


def exported(request: Request, folder: Path) -> tuple[Graph, dict[str, Any]]:
    """The graph, and the file for the editor."""
    graph, editor, *_ = export_workflow(request, folder / "graph.json")
    assert editor.name == "graph.editor.json"
    return json.loads(graph.read_text(encoding="utf-8")), json.loads(editor.read_text(encoding="utf-8"))


class TestWhatWeWrite:
    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("frames", [9, 200])
    def test_the_editor_queues_the_graph_that_we_mean(
        self, serve: Serve, ask: Ask, tmp_path: Path, cover: Path, version: str, frames: int
    ) -> None:
        server = serve(version)
        request = ask(urls=(server.url,), frames=frames, ref_image=cover, turbo=True, steps=4, guide_scale=1.0)
        graph, editor = exported(request, tmp_path)
        read = by_title(to_graph(editor, described(server)))
        for title, (kind, inputs) in by_title(graph).items():
            assert read[title][0] == kind
            assert inputs.items() <= read[title][1].items(), title
        assert len(read) == len(graph)

    def test_without_a_server_too(self, ask: Ask, tmp_path: Path) -> None:
        graph, editor = exported(ask(urls=(NO_SERVER,), frames=100), tmp_path)
        read = by_title(to_graph(editor, official_nodes()))
        assert {title: kind for title, (kind, _) in read.items()} == {
            title: kind for title, (kind, _) in by_title(graph).items()
        }

    @pytest.mark.parametrize("version", VERSIONS)
    def test_our_own_description_of_nodes_is_theirs(self, version: str) -> None:
        theirs = object_info(version)
        for kind, node in official_nodes().items():
            if kind not in theirs or kind == "SaveVideo":
                continue
            assert node["output"] == theirs[kind]["output"][: len(node["output"])], kind
            for group in ("required", "optional"):
                ours, real = node["input"][group], theirs[kind]["input"].get(group, {})
                assert list(ours) == [name for name in real if name in ours], kind
                assert set(ours) >= {name for name in real if group == "required"}, kind

    def test_links_fit_their_slots(self, server: ContractServer, ask: Ask, tmp_path: Path, cover: Path) -> None:
        _, editor = exported(ask(frames=200, ref_image=cover), tmp_path)
        placed = {node["id"]: node for node in editor["nodes"]}
        for number, origin, out, target, slot, kind in editor["links"]:
            assert number in placed[origin]["outputs"][out]["links"]
            assert placed[target]["inputs"][slot]["link"] == number
            assert placed[origin]["outputs"][out]["type"] == placed[target]["inputs"][slot]["type"] == kind
        assert editor["last_link_id"] == len(editor["links"])

    def test_a_group_for_each_chunk_and_nothing_overlaps(
        self, server: ContractServer, ask: Ask, tmp_path: Path
    ) -> None:
        _, editor = exported(ask(frames=200), tmp_path)
        titles = [group["title"] for group in editor["groups"]]
        assert titles == ["Models", "Sound, pictures and words", "Chunk 1", "Chunk 2", "Chunk 3", "Video"]
        boxes = [(*node["pos"], *node["size"]) for node in editor["nodes"]]
        for place, (x, y, width, height) in enumerate(boxes):
            for left, top, w, h in boxes[place + 1 :]:
                assert x + width <= left or left + w <= x or y + height <= top or top + h <= y
            assert any(
                gx <= x and gy <= y and x + width <= gx + gw and y + height <= gy + gh
                for gx, gy, gw, gh in (group["bounding"] for group in editor["groups"])
            )

    def test_seeds_are_fixed(self, server: ContractServer, ask: Ask, tmp_path: Path) -> None:
        _, editor = exported(ask(frames=100, seed=7), tmp_path)
        samplers = [node["widgets_values"] for node in editor["nodes"] if node["type"] == "KSampler"]
        assert [values[:2] for values in samplers] == [[7, "fixed"], [8, "fixed"]]

    @pytest.mark.parametrize("version", VERSIONS)
    def test_the_video_plays_the_original_sound_in_the_quality_that_was_asked_for(
        self, serve: Serve, ask: Ask, tmp_path: Path, version: str
    ) -> None:
        server = serve(version)
        request = ask(urls=(server.url,), frames=32, audio_start=1.0)
        graph, _ = exported(request, tmp_path)
        (video,) = nodes(graph, "CreateVideo")
        played = graph[video["audio"][0]]["inputs"]["audio"]
        heard = graph[nodes(graph, "AudioEncoderEncode")[0]["audio"][0]]["inputs"]["audio"]
        assert played != heard
        source = np.concatenate(list(stream_sound(request.audio, start=1.0, seconds=2.0)))
        with wave.open(str(tmp_path / played)) as file:
            assert (file.getnchannels(), file.getnframes()) == (source.shape[1], len(source))
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(source.shape) / 32767
        np.testing.assert_allclose(samples, np.clip(source, -1, 1), atol=1 / 32767)
        (saved,) = nodes(graph, "SaveVideo")
        crf = {value for name, value in saved.items() if name.endswith("crf")}
        assert crf == ({18.0} if version == "0.33.0" else set())
        assert server.prompts == []


def described(server: ContractServer) -> NodeClasses:
    """The server's nodes, as a client reads them."""
    return node_classes(server.info)


PRIMITIVE = {"input": {"required": {"value": ["INT", {"control_after_generate": True}]}}, "output": ["INT"]}


class File:
    """A workflow file in the making."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []

    def node(
        self,
        kind: str,
        outputs: str = "",
        values: Any = (),
        mode: int = 0,
        title: str = "",
        **inputs: tuple[int, int, str],
    ) -> int:
        """Add a node, whose inputs are (node, slot, type); returns its id."""
        number = len(self.nodes) + 1
        slots = []
        for slot, (name, (origin, out, of)) in enumerate(inputs.items()):
            self.links.append([len(self.links) + 1, origin, out, number, slot, of])
            slots.append({"name": name, "type": of, "link": len(self.links)})
        made = {"id": number, "type": kind, "mode": mode, "inputs": slots, "widgets_values": values}
        made |= {"title": title} if title else {}
        self.nodes.append(made | {"outputs": [{"name": of, "type": of, "links": []} for of in outputs.split()]})
        return number


def subgraph() -> dict[str, Any]:
    """A further chunk as a subgraph, in the form of the official template."""
    names = [
        *(("model", "MODEL"), ("positive", "CONDITIONING"), ("negative", "CONDITIONING"), ("vae", "VAE")),
        *(("video_latent", "LATENT"), ("audio_encoder_output", "AUDIO_ENCODER_OUTPUT"), ("ref_image", "IMAGE")),
        *(("seed", "INT"), ("steps", "INT"), ("length", "INT")),
    ]
    slot = {name: (-10, number, of) for number, (name, of) in enumerate(names)}
    inside = File()
    of_chunk = ("positive", "negative", "vae", "video_latent", "audio_encoder_output", "ref_image", "length")
    chunk = inside.node(
        "WanSoundImageToVideoExtend",
        "CONDITIONING CONDITIONING LATENT",
        [77],
        **{name: slot[name] for name in of_chunk},
    )
    latents = inside.node(
        "KSampler", "LATENT", [5, "fixed", 9, 6.0, "uni_pc", "simple", 1.0],
        model=slot["model"], positive=(chunk, 0, "CONDITIONING"), negative=(chunk, 1, "CONDITIONING"),
        latent_image=(chunk, 2, "LATENT"), seed=slot["seed"], steps=slot["steps"],
    )  # fmt: skip
    inside.node("LatentConcat", "LATENT", ["t"], samples1=slot["video_latent"], samples2=(latents, 0, "LATENT"))
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    links = [dict(zip(keys, link, strict=True)) for link in inside.links]
    links.append(dict(zip(keys, (99, 3, 0, -20, 0, "LATENT"), strict=True)))
    return {
        "id": EXTEND,
        "inputs": [{"name": name, "type": of} for name, of in names],
        "outputs": [{"name": "LATENT", "type": "LATENT", "linkIds": [99]}],
        "nodes": inside.nodes,
        "links": links,
    }


def template(*, extends: int, bypassed: int) -> dict[str, Any]:
    """A file as the official template is built: each further chunk is a subgraph, the last ones are bypassed."""
    file = File()
    file.node("MarkdownNote", values=["read me"])
    steps = file.node("PrimitiveInt", "INT", [4, "fixed"])
    length = file.node("PrimitiveNode", "INT", [77])
    model = (file.node("UNETLoader", "MODEL", ["wan2.2_s2v_14B_fp8_scaled.safetensors", "default"]), 0, "MODEL")
    clip = (file.node("CLIPLoader", "CLIP", ["umt5_xxl_fp8_e4m3fn_scaled.safetensors", "wan", "default"]), 0, "CLIP")
    vae = (file.node("VAELoader", "VAE", ["wan_2.1_vae.safetensors"]), 0, "VAE")
    lora = file.node("LoraLoaderModelOnly", "MODEL", ["none.safetensors", 1.0], mode=4, model=model)
    encoder = file.node("AudioEncoderLoader", "AUDIO_ENCODER", ["wav2vec2_large_english_fp16.safetensors"])
    sound = file.node("LoadAudio", "AUDIO", ["a.mp3", None, None])
    picture = file.node("LoadImage", "IMAGE MASK", ["a.png", "image"])
    heard = file.node(
        "AudioEncoderEncode", "AUDIO_ENCODER_OUTPUT",
        audio_encoder=(encoder, 0, "AUDIO_ENCODER"), audio=(sound, 0, "AUDIO"),
    )  # fmt: skip
    words = [
        (
            file.node("CLIPTextEncode", "CONDITIONING", [text], title=f"CLIP Text Encode ({text} Prompt)", clip=clip),
            0,
            "CONDITIONING",
        )
        for text in ("Positive", "Negative")
    ]
    shift = (file.node("ModelSamplingSD3", "MODEL", [8.0], model=(lora, 0, "MODEL")), 0, "MODEL")
    reroute = (file.node("Reroute", "*", **{"": (picture, 0, "*")}), 0, "IMAGE")
    of_chunk = {
        "positive": words[0],
        "negative": words[1],
        "vae": vae,
        "audio_encoder_output": (heard, 0, "AUDIO_ENCODER_OUTPUT"),
        "ref_image": reroute,
    }
    first = file.node(
        "WanSoundImageToVideo",
        "CONDITIONING CONDITIONING LATENT",
        [640, 640, 5, 1],
        **of_chunk,
        length=(length, 0, "INT"),
    )
    latents = file.node(
        "KSampler", "LATENT", [1, "randomize", 20, 6.0, "uni_pc", "simple", 1.0],
        model=shift, positive=(first, 0, "CONDITIONING"), negative=(first, 1, "CONDITIONING"),
        latent_image=(first, 2, "LATENT"), steps=(steps, 0, "INT"),
    )  # fmt: skip
    for number in range(extends):
        mode = 4 if number >= extends - bypassed else 0
        latents = file.node(
            EXTEND, "LATENT", [100 + number, 20, 77], mode,
            model=shift, **of_chunk, video_latent=(latents, 0, "LATENT"), steps=(steps, 0, "INT"),
        )  # fmt: skip
    shown = file.node("VAEDecode", "IMAGE", samples=(latents, 0, "LATENT"), vae=vae)
    video = file.node("CreateVideo", "VIDEO", [16], images=(shown, 0, "IMAGE"), audio=(sound, 0, "AUDIO"))
    file.node("SaveVideo", values=["video/ComfyUI", "auto", "auto"], video=(video, 0, "VIDEO"))
    file.node("SaveVideo", values=["video/ComfyUI", "auto", "auto"], mode=2, video=(video, 0, "VIDEO"))
    file.node("VAEDecode", "IMAGE")  # left over
    return {"nodes": file.nodes, "links": file.links, "definitions": {"subgraphs": [subgraph()]}}


class TestWhatItSaves:
    @pytest.fixture
    def server(self, serve: Serve) -> ContractServer:
        """A server that has what the file needs."""
        server = serve()
        server.info["PrimitiveInt"] = PRIMITIVE
        return server

    def test_a_template_with_subgraphs_is_rendered(
        self, server: ContractServer, ask: Ask, scratch: Path, cover: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "template.json"
        path.write_text(json.dumps(template(extends=2, bypassed=1)), encoding="utf-8")
        shown = labels(ask(workflow=path, frames=100, seed=40, prompt="a fox", ref_image=cover, steps=9), scratch)
        assert shown == list(range(100))
        graph = server.prompts[0].graph
        assert [node["seed"] for node in nodes(graph, "KSampler")] == [40, 41]
        assert {graph[node["steps"][0]]["inputs"]["value"] for node in nodes(graph, "KSampler")} == {4}
        assert {node["text"] for node in nodes(graph, "CLIPTextEncode")} == {"a fox", "Negative"}
        assert len(nodes(graph, "SaveVideo")) == 1
        assert len(nodes(graph, "VAEDecode")) == 1
        assert not nodes(graph, "LoraLoaderModelOnly")
        (extend,) = nodes(graph, "WanSoundImageToVideoExtend")
        assert graph[extend["ref_image"][0]]["class_type"] == "LoadImage"

    def test_bypassed_chunks_do_not_count(
        self, server: ContractServer, ask: Ask, scratch: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "template.json"
        path.write_text(json.dumps(template(extends=2, bypassed=1)), encoding="utf-8")
        with pytest.raises(InputError, match="has 2 chunks.*200 frames need 3"):
            labels(ask(workflow=path, frames=200), scratch)

    def test_values_of_an_instance_reach_its_nodes(self) -> None:
        info = node_classes(object_info("0.33.0") | {"PrimitiveInt": PRIMITIVE})
        graph = to_graph(template(extends=2, bypassed=0), info)
        extends = [node for node in graph.values() if node["class_type"] == "WanSoundImageToVideoExtend"]
        assert [node["inputs"]["length"] for node in extends] == [77, 77]
        assert [node["seed"] for node in nodes(graph, "KSampler")] == [1, 100, 101]
        assert nodes(graph, "WanSoundImageToVideo")[0]["length"] == 77
        assert all(isinstance(node["steps"], list) for node in nodes(graph, "KSampler"))

    def test_what_we_write_is_read_again(self, server: ContractServer, ask: Ask, scratch: Path, tmp_path: Path) -> None:
        exported(ask(frames=100), tmp_path)
        assert labels(ask(frames=100, workflow=tmp_path / "graph.editor.json"), scratch) == list(range(100))

    @pytest.mark.parametrize(
        "content",
        [
            {"nodes": [], "links": []},
            {"nodes": [{"id": 1}]},
            {"nodes": [1]},
            {"nodes": [{"id": 1, "type": "KSampler", "inputs": [{"name": "model", "link": 1}]}], "links": [[1]]},
            {"nodes": [], "definitions": {"subgraphs": [{}]}},
        ],
    )
    def test_a_damaged_file_is_an_input_error(
        self, server: ContractServer, ask: Ask, scratch: Path, tmp_path: Path, content: Any
    ) -> None:
        path = tmp_path / "damaged.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(InputError, match="workflow"):
            labels(ask(workflow=path), scratch)

    def test_nodes_that_the_server_lacks_are_named(
        self, server: ContractServer, ask: Ask, scratch: Path, tmp_path: Path
    ) -> None:
        del server.info["PrimitiveInt"]
        path = tmp_path / "template.json"
        path.write_text(json.dumps(template(extends=1, bypassed=0)), encoding="utf-8")
        with pytest.raises(EngineError, match="lacks the node PrimitiveInt"):
            labels(ask(workflow=path, frames=20), scratch)


class TestTags:
    def test_a_finished_video_opens_as_its_graph(
        self, server: ContractServer, ask: Ask, tmp_path: Path, cover: Path
    ) -> None:
        result = generate(ask(frames=20, ref_image=cover, output=tmp_path / "out.mp4"))
        tags = probe_video(result.path).metadata
        graph = json.loads(tags["prompt"])
        assert graph == server.prompts[0].graph
        assert by_title(to_graph(json.loads(tags["workflow"]), described(server))).keys() == by_title(graph).keys()

    def test_of_shots_all_graphs_are_one_with_what_they_share_once(
        self, server: ContractServer, ask: Ask, tmp_path: Path, cover: Path
    ) -> None:
        cuts = {"frames": 48, "infer_frames": 16, "cuts": (1.0, 2.0), "ref_image": cover}
        result = generate(ask(**cuts, output=tmp_path / "out.mp4"))
        tags = probe_video(result.path).metadata
        graph, chains = json.loads(tags["prompt"]), [prompt.graph for prompt in server.prompts]
        assert len(chains) == 3
        for kind, count in {"UNETLoader": 1, "VAELoader": 1, "LoadImage": 1, "SaveVideo": 3}.items():
            assert len(nodes(graph, kind)) == count, kind
        seeds = [[sampler["seed"] for sampler in nodes(one, "KSampler")] for one in (graph, *chains)]
        assert sorted(seeds[0]) == sorted(chain.from_iterable(seeds[1:]))
        opened = json.loads(tags["workflow"])
        assert by_title(to_graph(opened, described(server))).keys() == by_title(graph).keys()
        titles = [group["title"] for group in opened["groups"]]
        assert (*titles[:2], titles[-1]) == ("Models", "Sound, pictures and words", "Video")
        assert titles[2:-1] == sorted(title for title in titles if title.startswith("Shot "))
        assert {title[:6] for title in titles[2:-1]} == {"Shot 1", "Shot 2", "Shot 3"}

    def test_also_when_it_is_printed_again(self, server: ContractServer, ask: Ask, tmp_path: Path) -> None:
        request, kept = ask(frames=20, output=tmp_path / "out.mp4"), WorkOptions(keep_work=True)
        first = probe_video(generate(request, work=kept).path).metadata["prompt"]
        again = probe_video(generate(request.replace(crf=30), work=kept).path).metadata["prompt"]
        assert first == again

    def test_not_without_a_recipe(self, server: ContractServer, ask: Ask, tmp_path: Path) -> None:
        result = generate(ask(frames=5, write_recipe=False, output=tmp_path / "out.mp4"))
        assert not {"prompt", "workflow"} & probe_video(result.path).metadata.keys()
