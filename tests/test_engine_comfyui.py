"""The comfyui engine against a server that behaves as the captured ones do, and misbehaves as servers do."""

import io
import json
import threading
import time
import wave
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from comfyui_renders import (
    CAPTURES,
    NEVER,
    VERSIONS,
    CrashError,
    Serve,
    captured,
    crash_at,
    ignore,
    nodes,
    plan,
    prepare,
)
from comfyui_renders import labels as render
from comfyui_renders import render as render_clips
from comfyui_server import ContractServer, graphs, read_label
from comfyui_server.nodes import object_info
from command import run_here
from counting import Counting
from no_server import NO_OTHER_SERVER, NO_SERVER
from numbered_sound import SILENT, write_numbered_sound
from soundreel import pipeline
from soundreel.driving_sound import DrivingSound
from soundreel.engines.comfyui import ComfyUIEngine, execution, watch
from soundreel.engines.comfyui.export import export_workflow
from soundreel.engines.comfyui.graph import FIRST_FRAME_FIX_DROPS
from soundreel.engines.comfyui.input_files import make_input_files
from soundreel.engines.comfyui.record import PromptRecord
from soundreel.errors import Cancelled, EngineError, InputError, WeightsError
from soundreel.media.audio import read_model_sound
from soundreel.media.video import SegmentWriter, probe_video, read_frames
from soundreel.pipeline import generate, reprint
from soundreel.render.work_folder import work_folder
from soundreel.request import AvAlign, Request, Server, WorkOptions
from soundreel.types import CancelFlag, Progress, Stage
from starts import starts_from
from test_interpolation_video import sound_packets

pytest_plugins = ("comfyui_fixtures",)

pytestmark = pytest.mark.usefixtures("no_patience_wasted")


@pytest.mark.skipif(not CAPTURES.is_dir(), reason="../shared/comfyui is not here")
@pytest.mark.parametrize("version", VERSIONS)
def test_nodes_are_described_as_servers_do(version: str) -> None:
    real = captured(version)
    assert object_info(version).keys() == real.keys()
    for kind, node in object_info(version).items():
        assert node["output"] == real[kind]["output"], kind
        assert node["output_node"] == real[kind]["output_node"], kind
        for group, inputs in node["input"].items():
            assert inputs.keys() == real[kind]["input"].get(group, {}).keys(), kind
            for name, spec in inputs.items():
                expected = real[kind]["input"][group][name]
                assert known(spec) <= known(expected), f"{kind} {name}"


def known(spec: list[Any]) -> set[Any]:
    """Type, limits and choices of an input."""
    choices = spec[0] if isinstance(spec[0], list) else (spec[1:] or [{}])[0].get("options", [])
    names = {choice["key"] if isinstance(choice, dict) else choice for choice in choices}
    limits = {(key, value) for key, value in (spec[1:] or [{}])[0].items() if key in {"min", "max"}}
    return names | limits | {"list" if isinstance(spec[0], list) else spec[0]}


class TestWhatComesOut:
    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("frames", [1, 17, 77, 78, 161])
    def test_frame_j_is_the_picture_of_sound_j(
        self, serve: Serve, ask: Callable[..., Request], scratch: Path, version: str, frames: int
    ) -> None:
        request = ask(urls=(serve(version).url,), frames=frames)
        assert render(request, scratch) == list(range(frames))

    def test_without_the_first_frame_fix_too(self, ask: Callable[..., Request], scratch: Path) -> None:
        assert render(ask(frames=90, first_frame_fix=False), scratch) == list(range(90))

    def test_only_dropping_four_keeps_frame_and_sound_together(self) -> None:
        """T latents, the first decoded twice: 4T + 1 pictures; of the d that may be dropped only 4 is right."""
        latents = [0, *range(20)]
        pictures = [0, *(4 * latent - back for latent in latents[1:] for back in (3, 2, 1, 0))]
        assert len(pictures) == 4 * 20 + 1
        shifts = {dropped: {label - j for j, label in enumerate(pictures[dropped:])} for dropped in range(1, 6)}
        assert [dropped for dropped, shift in shifts.items() if shift == {0}] == [FIRST_FRAME_FIX_DROPS]
        assert shifts[3] == {-1}, "the template's 3 shows every picture one frame late"

    def test_more_frames_than_the_server_can_cut(
        self, ask: Callable[..., Request], scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("graph", "prompt"):
            monkeypatch.setattr(f"soundreel.engines.comfyui.{module}.LARGEST_BATCH", 50)
        assert render(ask(frames=90), scratch) == list(range(90))

    def test_a_resumed_render_goes_on_with_any_clip(self, ask: Callable[..., Request], scratch: Path) -> None:
        clips = list(render_clips(ask(frames=161), scratch, start=2))
        assert [(clip.clip.index, [read_label(frame) for frame in clip.frames]) for clip in clips] == [
            (2, list(range(157, 161)))
        ]

    def test_the_finished_video_keeps_the_contract(
        self, ask: Callable[..., Request], server: ContractServer, tmp_path: Path
    ) -> None:
        result = generate(ask(frames=33, output=tmp_path / "out.mp4", headers=("Authorization: secret",)))
        video = probe_video(result.path)
        assert (video.frames, video.fps, result.engine) == (33, 16, "comfyui")
        assert [read_label(frame) for frame in read_frames(result.path)] == list(range(33))
        assert "secret" not in video.metadata["soundreel"]

    def test_where_a_server_is_stands_in_a_recipe_only_if_that_is_asked_for(
        self, ask: Callable[..., Request], server: ContractServer, tmp_path: Path
    ) -> None:
        recipes = {
            paths: probe_video(generate(ask(frames=5, output=tmp_path / "out.mp4", recipe_paths=paths)).path).metadata[
                "soundreel"
            ]
            for paths in (False, True)
        }
        assert {paths: server.url in recipe for paths, recipe in recipes.items()} == {False: False, True: True}


class TestGraph:
    def test_chunks_are_chained_as_the_contract_says(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path, cover: Path
    ) -> None:
        render(ask(frames=200, seed=7, ref_image=cover, guide_scale=3.5, shift=6.0), scratch)
        graph = server.prompts[0].graph
        (first,), extends = nodes(graph, "WanSoundImageToVideo"), nodes(graph, "WanSoundImageToVideoExtend")
        assert [chunk["length"] for chunk in (first, *extends)] == [77, 77, 77]
        assert (first["width"], first["height"]) == (64, 64)
        assert [len(graphs.latents(graph, extend["video_latent"])) for extend in extends] == [20, 40]
        assert {chunk["ref_image"][0] for chunk in (first, *extends)} == {"reference"}
        assert [sampler["seed"] for sampler in nodes(graph, "KSampler")] == [7, 8, 9]
        assert {(s["sampler_name"], s["scheduler"], s["cfg"]) for s in nodes(graph, "KSampler")} == {
            ("uni_pc", "simple", 3.5)
        }
        assert nodes(graph, "ModelSamplingSD3")[0]["shift"] == 6.0

    def test_one_clip_is_no_longer_than_it_must_be(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        render(ask(frames=18), scratch)
        assert nodes(server.prompts[0].graph, "WanSoundImageToVideo")[0]["length"] == 21

    def test_the_best_quality_that_the_version_has(
        self, serve: Serve, ask: Callable[..., Request], tmp_path: Path
    ) -> None:
        new, old = serve("0.33.0"), serve("0.3.64")
        for number, one in enumerate((new, old)):
            (tmp_path / str(number)).mkdir()
            render(ask(urls=(one.url,)), tmp_path / str(number))
        (saving,) = nodes(new.prompts[0].graph, "SaveVideo")
        assert saving["format.codec.encoding.crf"] == 0.0
        assert nodes(old.prompts[0].graph, "SaveImage")

    def test_turbo_takes_the_official_lora(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        render(ask(turbo=True, steps=4, guide_scale=1.0), scratch)
        graph = server.prompts[0].graph
        (lora,) = nodes(graph, "LoraLoaderModelOnly")
        assert (lora["lora_name"], lora["strength_model"]) == (graphs_lora(server), 1.0)
        assert nodes(graph, "ModelSamplingSD3")[0]["model"][0] == "lora_1"
        assert nodes(graph, "ModelSamplingSD3")[0]["shift"] == 8.0

    def test_loras_have_strengths(self, server: ContractServer, ask: Callable[..., Request], scratch: Path) -> None:
        render(ask(loras=(f"{graphs_lora(server)}:0.6",)), scratch)
        assert nodes(server.prompts[0].graph, "LoraLoaderModelOnly")[0]["strength_model"] == 0.6

    def test_every_clip_gets_its_part_of_the_pose_video(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path, tmp_path: Path
    ) -> None:
        pose = tmp_path / "pose.mp4"
        with SegmentWriter(pose, width=64, height=64) as writer:
            writer.write(np.stack([graphs.draw(label, 64, 64) for label in range(100)]))
        render(ask(frames=90, pose_video=pose), scratch)
        graph = server.prompts[0].graph
        files = [node["file"] for node in nodes(graph, "LoadVideo")]
        shown = [poses_shown(server, name, tmp_path) for name in files]
        assert shown == [list(range(77)), [*range(80, 100), *[99] * 57]]
        extend = nodes(graph, "WanSoundImageToVideoExtend")[0]
        assert graph[graph[extend["control_video"][0]]["inputs"]["video"][0]]["inputs"]["file"] == files[1]

    def test_files_in_folders_are_found_by_their_name(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        server.models["VAELoader", "vae_name"] = ["wan\\wan_2.1_vae.safetensors"]
        render(ask(), scratch)
        assert nodes(server.prompts[0].graph, "VAELoader")[0]["vae_name"] == "wan\\wan_2.1_vae.safetensors"


def graphs_lora(server: ContractServer) -> str:
    return server.models["LoraLoaderModelOnly", "lora_name"][0]


class TestCuts:
    """Each shot is a prompt of its own, whose pictures show the numbers that they heard."""

    @pytest.fixture
    def numbered(self, tmp_path: Path) -> Path:
        return write_numbered_sound(tmp_path / "numbered.wav", 300)

    @pytest.fixture
    def listener(self, serve: Serve) -> ContractServer:
        return serve(listens=True)

    @pytest.mark.parametrize("version", VERSIONS)
    def test_frame_j_shows_sound_j_across_cuts(
        self, serve: Serve, ask: Callable[..., Request], scratch: Path, numbered: Path, version: str
    ) -> None:
        listener = serve(version, listens=True)
        request = ask(audio=numbered, urls=(listener.url,), frames=200, cuts=(1.0, 7.0), seed=3)
        assert render(request, scratch) == list(range(200))
        seeds = [[sampler["seed"] for sampler in nodes(prompt.graph, "KSampler")] for prompt in listener.prompts]
        assert seeds == [[3], [4, 5], [6, 7]]
        assert not any(chunk.get("video_latent") for chunk in nodes(listener.prompts[1].graph, "WanSoundImageToVideo"))

    def test_in_a_window_too_and_where_the_sound_has_ended_there_is_silence(
        self, listener: ContractServer, ask: Callable[..., Request], scratch: Path, tmp_path: Path
    ) -> None:
        short = write_numbered_sound(tmp_path / "short.wav", 100)
        cuts = (2.9, 5.0, 7.0)  # on the sound's time line; the last one is where it has ended
        request = ask(audio=short, urls=(listener.url,), audio_start=2.0, frames=90, cuts=cuts)
        assert [shot.start for shot in plan(request).shots] == [0, 14, 48, 80]
        assert render(request, scratch) == [*range(32, 100), *[SILENT] * 22]

    def test_the_server_hears_what_drives_and_the_video_what_it_is_made_of(
        self, listener: ContractServer, ask: Callable[..., Request], tune: Path, numbered: Path, tmp_path: Path
    ) -> None:
        fields = {"urls": (listener.url,), "audio_start": 1.0, "frames": 60, "cuts": (2.0, 3.5)}
        result = generate(ask(audio=tune, drive=numbered, output=tmp_path / "out.mp4", **fields))
        assert [read_label(frame) for frame in read_frames(result.path)] == list(range(16, 76))
        small = {"width": 64, "height": 64, "engine": "draft", "audio_start": 1.0, "frames": 60}
        plain = generate(Request(audio=tune, output=tmp_path / "plain.mp4", **small))
        assert sound_packets(result.path) == sound_packets(plain.path)

    def test_the_finished_video_joins_the_shots(
        self, listener: ContractServer, ask: Callable[..., Request], numbered: Path, tmp_path: Path
    ) -> None:
        request = ask(audio=numbered, urls=(listener.url,), frames=100, cuts=(1.0,), output=tmp_path / "out.mp4")
        result = generate(request)
        assert [read_label(frame) for frame in read_frames(result.path)] == list(range(100))
        assert probe_video(result.path).sound_seconds == pytest.approx(100 / 16, abs=1e-3)

    def test_a_render_that_was_killed_between_shots_queues_only_the_missing_one(
        self, listener: ContractServer, ask: Callable[..., Request], numbered: Path, tmp_path: Path
    ) -> None:
        uploads: list[int] = []

        def crash_in_the_second_shot(progress: Progress) -> None:
            if progress.what == "upload":
                uploads.append(progress.done)
            if len(uploads) == 2:
                raise CrashError

        request = ask(audio=numbered, urls=(listener.url,), frames=100, cuts=(5.5,), output=tmp_path / "out.mp4")
        with pytest.raises(CrashError):
            generate(request, crash_in_the_second_shot)
        result = generate(request)
        assert [nodes(prompt.graph, "KSampler")[0]["seed"] for prompt in listener.prompts] == [0, 2]
        assert [read_label(frame) for frame in read_frames(result.path)] == list(range(100))

    def test_a_render_that_was_killed_in_a_shot_finds_its_prompt_again(
        self, listener: ContractServer, ask: Callable[..., Request], numbered: Path, tmp_path: Path
    ) -> None:
        def crash(progress: Progress) -> None:
            if progress.clip == 3:
                raise CrashError

        request = ask(audio=numbered, urls=(listener.url,), frames=100, cuts=(5.5,), output=tmp_path / "out.mp4")
        with pytest.raises(CrashError):
            generate(request, crash)
        assert len(listener.prompts) == 2
        result = generate(request)
        assert len(listener.prompts) == 2
        assert [read_label(frame) for frame in read_frames(result.path)] == list(range(100))

    def test_the_poses_of_a_shot_begin_at_its_first_frame(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path, tmp_path: Path
    ) -> None:
        pose = tmp_path / "pose.mp4"
        with SegmentWriter(pose, width=64, height=64) as writer:
            writer.write(np.stack([graphs.draw(label, 64, 64) for label in range(140)]))
        render(ask(frames=120, pose_video=pose, cuts=(1.25,)), scratch)
        shown = [
            [poses_shown(server, node["file"], tmp_path) for node in nodes(prompt.graph, "LoadVideo")]
            for prompt in server.prompts
        ]
        assert shown == [[list(range(21))], [list(range(20, 97)), [*range(100, 140), *[139] * 37]]]

    def test_progress_is_of_the_whole_and_never_goes_back(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        told: list[Progress] = []
        render(ask(frames=120, cuts=(1.0,)), scratch, told.append)
        steps = [progress for progress in told if progress.stage is Stage.RENDER and progress.step]
        assert [(p.clip, p.clips, p.step) for p in steps] == [(c, 3, s) for c in (1, 2, 3) for s in (1, 2)]
        assert {progress.total for progress in steps} == {120}
        assert [progress.done for progress in steps] == [8, 16, 42, 68, 94, 120]

    def test_what_no_server_takes_is_found_before_the_first_shot(
        self, server: ContractServer, ask: Callable[..., Request]
    ) -> None:
        with pytest.raises(InputError, match="48×64 in 2 clips"):
            prepare(ask(width=48, frames=120, cuts=(1.0,)))
        assert not server.prompts

    def test_a_graph_is_not_exported_with_cuts(
        self, server: ContractServer, tune: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        target = tmp_path / "graph.json"
        done = run_here(capsys, tune, "--cut", "1", "--url", server.url, "--export-workflow", target)
        assert (done.code, done.out, target.exists()) == (2, "", False)
        assert done.err == (
            "soundreel: --cut: a graph renders one shot; export each by --audio-start and --audio-duration\n"
        )


class TestStoryboard:
    """A chain of shots is one prompt, in which each clip has the words and the picture of its shot."""

    @pytest.fixture
    def listener(self, serve: Serve) -> ContractServer:
        return serve(listens=True)

    @pytest.fixture
    def numbered(self, tmp_path: Path) -> Path:
        return write_numbered_sound(tmp_path / "numbered.wav", 300)

    def test_frames_and_sound_stay_together_whatever_lengths_the_shots_have(
        self, listener: ContractServer, ask: Callable[..., Request], scratch: Path, numbered: Path
    ) -> None:
        shots = [shot(0), shot(90, cut="continue"), shot(101), shot(130, cut="continue"), shot(137, cut="continue")]
        request = ask(audio=numbered, urls=(listener.url,), frames=140, shots=shots)
        assert [one.start for one in plan(request).shots] == [0, 89, 101, 130, 138]
        assert render(request, scratch) == list(range(140))

    def test_chains_of_shots_come_out_the_same_in_any_order(
        self, listener: ContractServer, ask: Callable[..., Request], scratch: Path, numbered: Path
    ) -> None:
        shots = [shot(0), shot(90, cut="continue"), shot(101), shot(130, cut="continue")]
        prepared = prepare(ask(audio=numbered, urls=(listener.url,), frames=140, shots=shots))
        first, second = ([clip.index for clip in chain.clips] for chain in prepared.plan.chains)
        starts = starts_from(prepared.plan, scratch)
        made = ComfyUIEngine().render(prepared, [starts[index] for index in (*second, *first)], ignore)
        told = [(one.clip.index, one.clip.start, [read_label(frame) for frame in one.frames]) for one in made]
        assert [index for index, _, _ in told] == [*second, *first]
        assert all(labels == list(range(start, start + len(labels))) for _, start, labels in told)

    def test_each_shot_has_its_own_words_pictures_and_seeds(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path, cover: Path, tmp_path: Path
    ) -> None:
        blue = tmp_path / "blue.png"
        Image.new("RGB", (64, 64), (0, 0, 200)).save(blue)
        shots = [
            shot(0, prompt="sun", seed=5),
            shot(21, prompt="rain", cut="continue", ref_image=blue, seed=8),
            shot(41, prompt="sun", cut="continue", seed=9),
        ]
        render(ask(frames=60, shots=shots, ref_image=cover, negative_prompt="text"), scratch)
        graph = server.prompts[0].graph
        assert [node["text"] for node in nodes(graph, "CLIPTextEncode")] == ["sun", "rain", "text"]
        assert len(nodes(graph, "LoadImage")) == 2
        chunks = [*nodes(graph, "WanSoundImageToVideo"), *nodes(graph, "WanSoundImageToVideoExtend")]
        said = [graph[chunk["positive"][0]]["inputs"]["text"] for chunk in chunks]
        seen = [graph[chunk["ref_image"][0]]["inputs"]["image"] for chunk in chunks]
        assert said == ["sun", "rain", "sun"]
        assert seen[0] == seen[2] != seen[1]
        assert [sampler["seed"] for sampler in nodes(graph, "KSampler")] == [5, 8, 9]

    def test_a_shot_s_own_poses_begin_with_it(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path, tmp_path: Path
    ) -> None:
        pose = tmp_path / "pose.mp4"
        with SegmentWriter(pose, width=64, height=64) as writer:
            writer.write(np.stack([graphs.draw(label, 64, 64) for label in range(60)]))
        render(ask(frames=40, shots=[shot(0), shot(21, cut="continue", pose_video=pose)]), scratch)
        shown = [poses_shown(server, node["file"], tmp_path) for node in nodes(server.prompts[0].graph, "LoadVideo")]
        assert shown == [list(range(17))]


def shot(frame: int, **own: Any) -> dict[str, Any]:
    """A shot from a frame on."""
    return {"start": frame / 16, **own}


def poses_shown(server: ContractServer, name: str, folder: Path) -> list[int]:
    """The labels in a pose video that was uploaded."""
    (folder / name).write_bytes(server.uploads[name])
    return [read_label(frame) for frame in read_frames(folder / name)]


class TestModels:
    """A render stays with the models that it was begun with, whatever the servers call them."""

    UNET = ("UNETLoader", "unet_name")
    FP8, BF16 = "wan2.2_s2v_14B_fp8_scaled.safetensors", "wan2.2_s2v_14B_bf16.safetensors"

    @pytest.fixture
    def two(self, serve: Serve) -> tuple[ContractServer, ContractServer]:
        """Servers with the same models, in folders on one of them."""
        plain, sorted_ = serve(), serve()
        sorted_.models[self.UNET] = [f"s2v\\{self.FP8}"]
        sorted_.models["VAELoader", "vae_name"] = ["video/wan_2.1_vae.safetensors", "wan_2.1_vae.other"]
        sorted_.models["LoraLoaderModelOnly", "lora_name"] = [f"fast/{graphs_lora(plain)}"]
        return plain, sorted_

    def test_one_command_is_one_render_whichever_server_it_meets(
        self, two: tuple[ContractServer, ContractServer], ask: Callable[..., Request], tmp_path: Path
    ) -> None:
        one, other = (
            pipeline.prepare(ask(urls=(server.url,), turbo=True, output=tmp_path / "out.mp4")) for server in two
        )
        assert one.asked.fingerprint.digest == other.asked.fingerprint.digest
        assert work_folder(one.asked, WorkOptions()) == work_folder(other.asked, WorkOptions())
        assert one.clip_fingerprints == other.clip_fingerprints
        assert one.identity == other.identity
        assert one.identity["loras"] == [f"{graphs_lora(two[0])}:1.0"]

    def test_a_render_goes_on_on_a_server_that_calls_its_models_otherwise(
        self, two: tuple[ContractServer, ContractServer], ask: Callable[..., Request], tmp_path: Path
    ) -> None:
        self._begin(ask(urls=(two[0].url,), frames=32, cuts=(1.0,), output=tmp_path / "out.mp4"))
        generate(ask(urls=(two[1].url,), frames=32, cuts=(1.0,), output=tmp_path / "out.mp4"))
        assert [self._unets(server) for server in two] == [[self.FP8], [f"s2v\\{self.FP8}"]]

    def test_a_resumed_render_asks_for_the_models_that_it_was_begun_with(
        self, server: ContractServer, ask: Callable[..., Request], tmp_path: Path
    ) -> None:
        server.models[self.UNET] = [self.BF16]
        request = ask(frames=32, cuts=(1.0,), output=tmp_path / "out.mp4")
        self._begin(request)
        server.models[self.UNET] = [self.FP8, self.BF16]
        generate(request)
        assert self._unets(server) == [self.BF16, self.BF16]

    def test_a_server_that_lacks_them_is_refused(
        self, server: ContractServer, ask: Callable[..., Request], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._begin(ask(frames=32, cuts=(1.0,), output=tmp_path / "out.mp4"))
        server.models[self.UNET] = [self.BF16]
        with pytest.raises(EngineError, match=rf"cannot go on .*: the server has no {self.FP8}.*--no-resume") as caught:
            generate(ask(frames=32, cuts=(1.0,), output=tmp_path / "out.mp4"))
        assert "\n" not in str(caught.value)
        done = run_here(capsys, "resume", tmp_path)
        assert (done.code, done.out, done.err.count("\n")) == (5, "", 1)
        assert len(server.prompts) == 1

    def test_the_strength_of_a_lora_is_kept_to_the_last_digit(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        request = ask(loras=(f"{graphs_lora(server)}:0.123456789",))
        kept = json.loads(json.dumps(prepare(request).identity))
        assert prepare(request, kept).identity == kept
        assert prepare(request, kept).placement.compute.loras == request.compute.loras

    def test_all_shots_are_rendered_with_the_same_models(
        self, serve: Serve, ask: Callable[..., Request], scratch: Path
    ) -> None:
        """A server that came later and is idle has others: the render waits for the busy one."""
        first, later = serve(), serve()
        later.models[self.UNET] = [self.BF16]
        later.kill()
        prepared = prepare(ask(urls=(later.url, first.url)))
        later.restart()
        first.occupy(1)
        first.wait_for(lambda: bool(first.queued_ids))

        def report(progress: Progress) -> None:
            if progress.stage is Stage.QUEUE:
                first.release()

        clips = ComfyUIEngine().render(prepared, starts_from(prepared.plan, scratch), report)
        assert [read_label(frame) for rendered in clips for frame in rendered.frames] == list(range(9))
        assert (self._unets(first), self._unets(later)) == ([self.FP8], [])

    def test_of_several_servers_one_that_has_the_models_is_taken(
        self, serve: Serve, ask: Callable[..., Request], scratch: Path
    ) -> None:
        bare, full = serve(), serve()
        bare.models[self.UNET] = []
        full.occupy(1)
        full.wait_for(lambda: bool(full.queued_ids))

        def report(progress: Progress) -> None:
            if progress.stage is Stage.QUEUE:
                full.release()

        assert render(ask(urls=(bare.url, full.url)), scratch, report) == list(range(9))
        assert (len(bare.prompts), len(full.prompts)) == (0, 1)

    @staticmethod
    def _begin(request: Request) -> None:
        """Render the first shot, and end before the second is queued."""
        seen: list[Progress] = []

        def crash(progress: Progress) -> None:
            if progress.what == "upload":
                seen.append(progress)
            if len(seen) == 2:
                raise CrashError

        with pytest.raises(CrashError):
            generate(request, crash)

    @staticmethod
    def _unets(server: ContractServer) -> list[str]:
        return [nodes(prompt.graph, "UNETLoader")[0]["unet_name"] for prompt in server.prompts]


class TestUploads:
    def test_the_sound_is_the_window_as_the_model_hears_it(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        request = ask(audio_start=2.0, frames=32)
        render(request, scratch)
        name = nodes(server.prompts[0].graph, "LoadAudio")[0]["audio"]
        with wave.open(io.BytesIO(server.uploads[name])) as file:
            assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (1, 16000, 2)
            heard = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
        expected = read_model_sound(request.audio, start=2.0, seconds=2.04)
        assert len(heard) == len(expected)
        np.testing.assert_allclose(heard, np.clip(expected, -1, 1), atol=1 / 32767)

    def test_where_the_sound_ends_silence_is_heard(self, ask: Callable[..., Request]) -> None:
        planned = plan(ask(frames=400))
        heard = DrivingSound.of(planned).samples(planned.seconds)
        assert len(heard) == round((400 / 16 + 0.04) * 16000)
        assert not heard[round((planned.audio_seconds + 0.05) * 16000) :].any()

    def test_nothing_of_others_is_overwritten(
        self, server: ContractServer, ask: Callable[..., Request], tmp_path: Path
    ) -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        render(ask(), tmp_path / "a")
        name = next(iter(server.uploads))
        server.uploads[name] = b"somebody else's"
        render(ask(seed=1), tmp_path / "b")
        assert server.uploads[name] == b"somebody else's"
        assert nodes(server.prompts[1].graph, "LoadAudio")[0]["audio"] == name.replace(".wav", " (1).wav")

    def test_too_large_a_file_is_refused_before_it_is_sent(
        self, serve: Serve, ask: Callable[..., Request], scratch: Path
    ) -> None:
        small = serve(max_upload_bytes=10_000)
        with pytest.raises(InputError, match=r"0\.0 MB.*takes 0\.0 MB.*--max-upload-size"):
            render(ask(urls=(small.url,)), scratch)
        assert not any("upload" in request for request in small.requests)


class Clock:
    """The clock of a watch, which can be set ahead."""

    ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


class TestProgress:
    def test_every_step_of_every_clip_is_told(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        told: list[Progress] = []
        render(ask(frames=100, steps=3), scratch, told.append)
        steps = [(p.clip, p.clips, p.step, p.done, p.total) for p in told if p.stage is Stage.RENDER and p.step]
        assert steps == [
            (1, 2, 1, 1, 6),
            (1, 2, 2, 2, 6),
            (1, 2, 3, 3, 6),
            (2, 2, 1, 4, 6),
            (2, 2, 2, 5, 6),
            (2, 2, 3, 6, 6),
        ]
        assert Stage.DOWNLOAD in {p.stage for p in told}

    def test_the_place_in_the_queue_is_told_and_waiting_is_no_stand_still(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.occupy(3)
        told: list[str] = []
        clock = Clock()
        monkeypatch.setattr(watch, "time", clock)

        def report(progress: Progress) -> None:
            if progress.stage is Stage.QUEUE:
                told.append(progress.what)
                clock.ahead += 2 * NEVER
            if len(told) == 3:
                server.release()

        assert render(ask(), scratch, report) == list(range(9))
        assert told[0] == "3 before this one"

    @pytest.mark.parametrize("version", VERSIONS)
    def test_previews_are_kept_as_a_file(
        self, serve: Serve, ask: Callable[..., Request], scratch: Path, version: str
    ) -> None:
        shown: list[bytes] = []

        def report(progress: Progress) -> None:
            if progress.preview is not None:
                shown.append(progress.preview.read_bytes())

        render(ask(urls=(serve(version).url,), preview=True), scratch, report)
        assert shown
        assert shown[0].startswith(b"\xff\xd8")

    def test_no_previews_unless_wanted(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        render(ask(), scratch)
        assert "preview_method" not in server.prompts[0].extra

    @pytest.mark.parametrize("trouble", ["silent_socket", "refuses_socket", "drops_sockets_at_step"])
    def test_without_a_socket_polling_finds_the_end(
        self,
        server: ContractServer,
        ask: Callable[..., Request],
        scratch: Path,
        trouble: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(watch, "RUNNING_POLL_SECONDS", 0.02)
        setattr(server.faults, trouble, 1)
        assert render(ask(), scratch) == list(range(9))

    def test_a_dropped_socket_is_opened_again(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("soundreel.engines.comfyui.events.RECONNECT_SECONDS", 0.01)
        server.faults.drops_sockets_at_step = 2
        server.holds[3] = lambda: server.requests.count("GET /ws") == 2 and server.is_listened_to()
        told: list[Progress] = []
        render(ask(steps=6), scratch, told.append)
        assert 6 in {progress.step for progress in told}
        assert server.requests.count("GET /ws") == 2

    def test_the_history_may_be_late(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch, "ABSENT_SECONDS", NEVER)
        server.faults.late_history = 3
        assert render(ask(), scratch) == list(range(9))
        assert len(server.prompts) == 1


class TestStopping:
    def test_cancelling_a_running_prompt_stops_only_it(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        server.holds[2] = lambda: False

        def report(progress: Progress) -> None:
            if progress.step == 1:
                raise Cancelled("stop")

        with pytest.raises(Cancelled):
            render(ask(steps=50), scratch, report)
        server.wait_for(lambda: not server.queued_ids)
        assert server.prompts[0].interrupted
        assert PromptRecord.read(scratch) is None

    @pytest.mark.timeout(60)
    def test_a_flag_is_heard_while_the_server_says_nothing(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        flag, server.faults.hangs_at = CancelFlag(), "VAEDecode"

        def report(progress: Progress) -> None:
            if progress.what == "decoding":  # the last message that comes
                flag.set()

        with pytest.raises(Cancelled):
            list(render_clips(ask(), scratch, report, check=flag.check))
        server.wait_for(lambda: server.prompts[0].interrupted)
        assert PromptRecord.read(scratch) is None

    def test_a_flag_is_heard_between_the_pictures(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        flag = CancelFlag()

        def report(progress: Progress) -> None:
            if progress.stage is Stage.DOWNLOAD:
                flag.set()

        with pytest.raises(Cancelled):
            list(render_clips(ask(), scratch, report, check=flag.check))
        record = PromptRecord.read(scratch)
        assert record is not None
        assert record.is_fetched

    @pytest.mark.parametrize("asked", [1, 6, 9])
    def test_a_stop_is_heard_while_input_files_are_made(self, tune: Path, scratch: Path, asked: int) -> None:
        """Each frame of the pose video is read, and encoded for the server."""
        poses = scratch.parent / "poses.mp4"
        with SegmentWriter(poses, width=64, height=64) as writer:
            writer.write(np.zeros((9, 64, 64, 3), np.uint8))
        planned = plan(Request(audio=tune, width=64, height=64, frames=9, engine="comfyui", pose_video=poses))
        check = Counting(stop_at=asked)
        with pytest.raises(Cancelled):
            make_input_files(planned, scratch, check=check)
        assert check.calls == asked

    def test_cancelling_a_waiting_prompt_leaves_the_running_one_of_others_alone(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        others = server.occupy(2)
        server.wait_for(lambda: len(server.queued_ids) == 2)

        def report(progress: Progress) -> None:
            if progress.stage is Stage.QUEUE:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            render(ask(), scratch, report)
        assert server.queued_ids == [other.id for other in others]
        assert not any(other.interrupted for other in others)

    def test_no_progress_for_too_long(self, server: ContractServer, ask: Callable[..., Request], scratch: Path) -> None:
        server.faults.hangs_at = "VAEDecode"
        with pytest.raises(EngineError, match=r"no progress for 0 s.*--timeout"):
            render(ask(timeout=0.1), scratch)
        server.faults.hangs_at = None
        assert render(ask(), scratch) == list(range(9)), "the same command goes on waiting"
        assert len(server.prompts) == 1


class TestNothingIsLost:
    def test_a_crash_while_it_runs(self, server: ContractServer, ask: Callable[..., Request], scratch: Path) -> None:
        told: list[str] = []
        server.holds[2] = lambda: "found the render that was begun before" in told
        with pytest.raises(CrashError):
            render(ask(steps=8), scratch, crash_at(Stage.RENDER))
        assert render(ask(steps=8), scratch, lambda progress: told.append(progress.what)) == list(range(9))
        assert len(server.prompts) == 1

    def test_a_crash_and_it_finishes_meanwhile(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        with pytest.raises(CrashError):
            render(ask(), scratch, crash_at(Stage.RENDER))
        server.wait_for(lambda: bool(server.history_ids))
        assert render(ask(), scratch) == list(range(9))
        assert len(server.prompts) == 1

    def test_the_same_command_goes_on_with_its_prompt(
        self, server: ContractServer, ask: Callable[..., Request], tmp_path: Path
    ) -> None:
        request = ask(frames=30, infer_frames=20, output=tmp_path / "out.mp4")
        with pytest.raises(CrashError):
            generate(request, crash_at(Stage.RENDER))
        result = generate(request)
        assert len(server.prompts) == 1
        assert [read_label(frame) for frame in read_frames(result.path)] == list(range(30))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "server0"]

    def test_a_clip_is_redone_with_another_seed_and_the_others_keep_theirs(
        self, server: ContractServer, ask: Callable[..., Request], tmp_path: Path
    ) -> None:
        request = ask(frames=40, infer_frames=16, output=tmp_path / "out.mp4")
        generate(request, work=WorkOptions(keep_work=True))
        generate(request, work=WorkOptions(keep_work=True, redo_clip=2))
        first, again = ([sampler["seed"] for sampler in nodes(prompt.graph, "KSampler")] for prompt in server.prompts)
        assert first == [0, 1, 2]
        assert (again[0], again[2]) == (0, 2)
        assert again[1] not in first

    def test_pictures_that_are_here_are_encoded_anew_without_the_server(
        self, server: ContractServer, ask: Callable[..., Request], tmp_path: Path
    ) -> None:
        request, kept = ask(frames=20, crf=20, output=tmp_path / "out.mp4"), WorkOptions(keep_work=True)
        generate(request, work=kept)
        server.kill()
        server.restart()  # and has forgotten the prompt
        again = generate(request.replace(crf=10), work=kept)
        assert [read_label(frame) for frame in read_frames(again.path)] == list(range(20))
        assert len(server.prompts) == 1

    def test_a_video_is_joined_again_without_a_server(
        self, server: ContractServer, ask: Callable[..., Request], tmp_path: Path
    ) -> None:
        video = generate(ask(frames=20, output=tmp_path / "out.mp4"), work=WorkOptions(keep_work=True)).path
        server.kill()
        printed = reprint(video)
        server.restart()
        assert [read_label(frame) for frame in read_frames(printed.path)] == list(range(20))

    @pytest.mark.parametrize("forgets", [False, True])
    def test_pictures_that_are_not_whole_are_fetched_or_made_again(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path, forgets: bool
    ) -> None:
        assert render(ask(), scratch) == list(range(9))
        (file,) = (scratch / "pictures").iterdir()
        file.write_bytes(file.read_bytes()[:500])
        if forgets:
            server.kill()
            server.restart()
        assert render(ask(), scratch) == list(range(9))
        assert len(server.prompts) == 1, "its name is known even where its history is gone"

    def test_a_crash_between_record_and_queue(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        with pytest.raises(CrashError):
            render(ask(), scratch, crash_at(Stage.RENDER))
        record = PromptRecord.read(scratch)
        assert record is not None
        replace(record, prompt_id="00000000-0000-4000-8000-000000000000").write(scratch)
        assert render(ask(), scratch) == list(range(9))

    def test_another_request_starts_anew(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        with pytest.raises(CrashError):
            render(ask(), scratch, crash_at(Stage.RENDER))
        render(ask(seed=5), scratch)
        assert [nodes(prompt.graph, "KSampler")[0]["seed"] for prompt in server.prompts] == [0, 5]

    def test_a_server_that_dies_is_asked_again_once_it_is_back(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        told: list[str] = []
        server.faults.dies_at_step = 1

        def report(progress: Progress) -> None:
            told.append(progress.what)
            is_away = "does not answer" in progress.what
            if is_away and told.count(progress.what) == 2:  # the first may be of a connection that broke
                server.restart()

        assert render(ask(), scratch, report) == list(range(9))
        assert len(server.prompts) == 2
        assert "the server was restarted: queued once more" in told
        assert any("does not answer" in what for what in told)

    def test_a_server_that_stays_away(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.faults.dies_at_step = 1
        monkeypatch.setattr(watch, "OUTAGE_SECONDS", 0.0)
        with pytest.raises(EngineError, match="no ComfyUI server answers"):
            render(ask(), scratch)
        server.restart()
        assert render(ask(), scratch) == list(range(9))

    def test_a_gateway_that_fails_for_a_moment(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch, "RUNNING_POLL_SECONDS", 0.02)
        fails: list[Progress] = []
        server.holds[2] = lambda: bool(fails) and not server.faults.error_answers

        def report(progress: Progress) -> None:
            if progress.step == 1:
                server.faults.error_answers = 3
                fails.append(progress)

        assert render(ask(), scratch, report) == list(range(9))
        assert len(server.prompts) == 1

    def test_somebody_takes_it_from_the_queue(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        server.occupy(1)
        server.wait_for(lambda: bool(server.queued_ids))

        def report(progress: Progress) -> None:
            if progress.stage is Stage.QUEUE:
                server.forget(server.prompts[0].id)

        with pytest.raises(EngineError, match="somebody took it from the queue"):
            render(ask(), scratch, report)

    @pytest.mark.parametrize("cut", [700, 1500])
    def test_a_download_goes_on_where_it_broke(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path, cut: int
    ) -> None:
        server.faults.downloads_cut_at = cut
        assert render(ask(frames=30), scratch) == list(range(30))
        assert server.requests.count("GET /view") > 1

    def test_a_server_that_knows_no_ranges(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        server.faults.ignores_range = True
        (scratch / "pictures").mkdir()
        (scratch / "pictures" / "00001.mp4.part").write_bytes(b"left from before")
        assert render(ask(), scratch) == list(range(9))

    def test_a_file_that_is_gone_is_made_again(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        server.faults.loses_files = 1
        assert render(ask(), scratch) == list(range(9))
        prefixes = [nodes(prompt.graph, "SaveVideo")[0]["filename_prefix"] for prompt in server.prompts]
        assert len(set(prefixes)) == 2, "or the server would name the lost file again"

    def test_but_only_once(self, server: ContractServer, ask: Callable[..., Request], scratch: Path) -> None:
        server.faults.loses_files = 2
        with pytest.raises(EngineError, match="no longer has"):
            render(ask(), scratch)


class TestFailuresOnTheServer:
    def test_out_of_memory_says_what_to_lower(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        text = "Allocation on device 0 would exceed allowed memory. (out of memory)\n"
        server.faults.raises["KSampler"] = ("torch.OutOfMemoryError", text)
        with pytest.raises(
            EngineError, match=r"KSampler failed.*OutOfMemoryError: Allocation.*lower --width"
        ) as caught:
            render(ask(), scratch)
        assert "\n" not in str(caught.value)
        server.faults.raises.clear()
        assert render(ask(), scratch) == list(range(9)), "the same command starts it again"

    def test_stopped_by_somebody(self, server: ContractServer, ask: Callable[..., Request], scratch: Path) -> None:
        server.faults.interrupted_by_another = True
        with pytest.raises(EngineError, match="stopped on the server at KSampler"):
            render(ask(), scratch)

    def test_a_video_that_is_none(self, server: ContractServer, ask: Callable[..., Request], scratch: Path) -> None:
        server.faults.output = b"\0" * 5000
        with pytest.raises(EngineError, match="cannot be used"):
            render(ask(), scratch)
        server.faults.output = None
        assert render(ask(), scratch) == list(range(9))

    def test_too_few_frames_are_an_error_with_both_numbers(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        server.faults.frames_short = 2
        with pytest.raises(EngineError, match="made 7 frames, 9 were expected"):
            render(ask(), scratch)

    def test_part_of_the_graph_dropped(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path
    ) -> None:
        server.faults.drops_an_output = True
        with pytest.raises(EngineError, match="does not take the graph: SaveVideo: dropped"):
            render(ask(), scratch)

    def test_a_refused_graph_is_explained(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("soundreel.engines.comfyui.prompt.Prompt.check", lambda *_: None)
        with pytest.raises(EngineError, match=r"KSampler: Value bigger than max \(cfg\)"):
            render(ask(guide_scale=1000.0), scratch)


class TestServers:
    def test_none_there(self, ask: Callable[..., Request]) -> None:
        with pytest.raises(EngineError, match=rf"no ComfyUI server answers at {NO_SERVER} .*main\.py.*--url"):
            prepare(ask(urls=(NO_SERVER,)))

    def test_another_service_on_the_port(self, ask: Callable[..., Request]) -> None:
        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"<html>hello</html>")

            def log_message(self, *_: object) -> None:
                """Quiet."""

        with HTTPServer(("127.0.0.1", 0), Page) as other:
            thread = threading.Thread(target=other.handle_request)
            thread.start()
            with pytest.raises(EngineError, match="is no ComfyUI server"):
                prepare(ask(urls=(f"http://127.0.0.1:{other.server_port}",)))
            thread.join()

    def test_too_old(self, server: ContractServer, ask: Callable[..., Request]) -> None:
        del server.info["WanSoundImageToVideo"], server.info["AudioEncoderLoader"]
        with pytest.raises(EngineError, match=r"lacks the nodes AudioEncoderLoader, WanSoundImageToVideo: update it"):
            prepare(ask())

    def test_a_missing_model_is_named_with_what_is_there_instead(
        self, server: ContractServer, ask: Callable[..., Request]
    ) -> None:
        with pytest.raises(
            WeightsError, match=r"no mine\.safetensors in models/vae: it has wan_2\.1_vae\.safetensors.*--vae"
        ):
            prepare(ask(vae="mine.safetensors"))
        server.models["UNETLoader", "unet_name"] = []
        with pytest.raises(WeightsError, match=r"models/diffusion_models: it has none"):
            prepare(ask())

    def test_the_least_busy_of_those_that_answer(
        self, serve: Serve, ask: Callable[..., Request], scratch: Path
    ) -> None:
        busy, idle = serve(), serve()
        busy.occupy(2)
        busy.wait_for(lambda: len(busy.queued_ids) == 2)
        render(ask(urls=(NO_SERVER, busy.url, idle.url)), scratch)
        assert (len(busy.prompts), len(idle.prompts)) == (0, 1)

    def test_a_render_goes_back_to_the_server_that_it_was_begun_on(
        self, serve: Serve, ask: Callable[..., Request], scratch: Path
    ) -> None:
        one, other = serve(), serve()
        with pytest.raises(CrashError):
            render(ask(urls=(one.url,)), scratch, crash_at(Stage.RENDER))
        render(ask(urls=(other.url, one.url)), scratch)
        assert (len(one.prompts), len(other.prompts)) == (1, 0)

    def test_none_of_several(self, ask: Callable[..., Request]) -> None:
        with pytest.raises(EngineError, match="none of 2 servers can render"):
            prepare(ask(urls=(NO_SERVER, NO_OTHER_SERVER)))

    def test_behind_a_proxy_with_a_path_and_a_password(
        self, serve: Serve, ask: Callable[..., Request], scratch: Path
    ) -> None:
        hidden = serve(prefix="/gpu/one", header=("X-Key", "open sesame"))
        told: list[Progress] = []
        request = ask(urls=(f"{hidden.url}/",), headers=("X-Key: open sesame",))
        assert render(request, scratch, told.append) == list(range(9))
        assert any(progress.step for progress in told), "the socket goes through the proxy too"
        with pytest.raises(EngineError, match="who you are") as caught:
            prepare(ask(urls=(hidden.url,), headers=("X-Key: wrong",)))
        assert "wrong" not in str(caught.value)

    @pytest.mark.parametrize("url", ["localhost:8188", "ftp://host", "http://", "http://host:port"])
    def test_urls_that_are_none(self, url: str) -> None:
        with pytest.raises(InputError, match="--url is"):
            Server(urls=(url,))

    def test_a_header_that_is_none_is_not_shown(self) -> None:
        with pytest.raises(InputError, match="--header is not understood") as caught:
            Server(headers=("my-secret",))
        assert "my-secret" not in str(caught.value)


class TestOptions:
    @pytest.mark.parametrize(
        "fields", [{"sigmas": (1.0, 0.5)}, {"av_align": AvAlign.REFERENCE}, {"start_from_ref": True}]
    )
    def test_what_a_server_cannot_do(self, ask: Callable[..., Request], cover: Path, fields: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="not possible on a ComfyUI server"):
            prepare(ask(ref_image=cover, **fields))

    def test_small_pictures_cannot_be_chained(self, ask: Callable[..., Request], scratch: Path) -> None:
        with pytest.raises(InputError, match="48×64 in 2 clips"):
            render(ask(width=48, frames=100), scratch)
        assert render(ask(width=48, frames=20), scratch) == list(range(20))

    def test_auto_takes_a_server_that_can_render(
        self, server: ContractServer, tune: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        size = ("--width", "64", "--height", "64", "--frames", "5", "--steps", "1")
        done = run_here(
            capsys, tune, *size, "--engine", "auto", "--url", server.url, "--device", "cuda", "-o", tmp_path / "a.mp4"
        )
        assert done.code == 0, done.err
        assert "engine: comfyui (a ComfyUI server answers" in done.err


class TestUsersOwnGraph:
    @pytest.fixture
    def own(self, tmp_path: Path) -> Path:
        if not CAPTURES.is_dir():
            pytest.skip("../shared/comfyui is not here")
        graph = json.loads((CAPTURES.parent / "s2v_extend_api.json").read_text(encoding="utf-8"))
        path = tmp_path / "mine.json"
        path.write_text(json.dumps(graph), encoding="utf-8")
        return path

    def test_it_is_filled_and_its_own_settings_stay(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path, own: Path, cover: Path
    ) -> None:
        request = ask(workflow=own, frames=200, seed=40, prompt="a red fox", ref_image=cover, steps=9)
        labels = render(request, scratch)
        graph = server.prompts[0].graph
        assert labels == list(range(-1, 199)), "its own shift of one frame"
        assert [sampler["seed"] for sampler in nodes(graph, "KSampler")] == [40, 41, 42]
        assert {sampler["steps"] for sampler in nodes(graph, "KSampler")} == {2}
        assert graph["positive"]["inputs"]["text"] == "a red fox"
        assert "色调艳丽" in graph["negative"]["inputs"]["text"]
        assert graph["audio"]["inputs"]["audio"] in server.uploads
        assert graph["ref"]["inputs"]["image"] in server.uploads
        assert (graph["chunk1"]["inputs"]["width"], graph["trim"]["inputs"]["start_index"]) == (64, 0.0)

    def test_each_shot_fills_it_anew(
        self, server: ContractServer, ask: Callable[..., Request], scratch: Path, own: Path, cover: Path
    ) -> None:
        labels = render(ask(workflow=own, frames=60, seed=40, cuts=(1.0,), ref_image=cover), scratch)
        assert labels == [*range(-1, 15), *range(-1, 43)], "its own shift of one frame, in both shots"
        assert [nodes(prompt.graph, "KSampler")[0]["seed"] for prompt in server.prompts] == [40, 41]

    def test_it_takes_no_shots_that_continue_each_other(
        self, server: ContractServer, ask: Callable[..., Request], own: Path
    ) -> None:
        with pytest.raises(InputError, match="give these shots hard cuts"):
            prepare(ask(workflow=own, frames=40, shots=[shot(0), shot(21, cut="continue")]))
        assert not server.prompts

    def test_too_few_chunks_for_a_later_shot_is_found_before_the_first(
        self, server: ContractServer, ask: Callable[..., Request], own: Path
    ) -> None:
        with pytest.raises(InputError, match="has 3 chunks.*284 frames need 4"):
            prepare(ask(workflow=own, frames=300, cuts=(1.0,)))
        assert not server.prompts

    def test_too_few_chunks_for_the_length(self, ask: Callable[..., Request], scratch: Path, own: Path) -> None:
        with pytest.raises(InputError, match="has 3 chunks.*300 frames need 4"):
            render(ask(workflow=own, frames=300), scratch)

    @pytest.mark.parametrize("content", ["[1, 2]", "{}", '{"1": {"inputs": {}}}', "no json", '{"1": 2}'])
    def test_what_is_no_graph(self, ask: Callable[..., Request], tmp_path: Path, content: str) -> None:
        path = tmp_path / "no.json"
        path.write_text(content)
        with pytest.raises(InputError, match=r"--workflow .*no\.json'"):
            prepare(ask(workflow=path))

    def test_without_an_output_node(self, ask: Callable[..., Request], scratch: Path, own: Path) -> None:
        graph = json.loads(own.read_text(encoding="utf-8"))
        del graph["save"]
        own.write_text(json.dumps(graph), encoding="utf-8")
        with pytest.raises(InputError, match="no output node"):
            render(ask(workflow=own), scratch)


class TestExport:
    def test_the_exported_graph_runs(
        self, server: ContractServer, ask: Callable[..., Request], cover: Path, tmp_path: Path
    ) -> None:
        graph_file, _, *inputs = export_workflow(ask(frames=100, ref_image=cover), tmp_path / "out" / "graph.json")
        graph = json.loads(graph_file.read_text(encoding="utf-8"))
        assert {node["audio"] for node in nodes(graph, "LoadAudio")} | {
            node["image"] for node in nodes(graph, "LoadImage")
        } == {file.name for file in inputs}
        options = server.models | {
            ("LoadAudio", "audio"): [file.name for file in inputs],
            ("LoadImage", "image"): [file.name for file in inputs],
        }
        graphs.check(graph, server.info, options)
        assert graphs.labels(graph, nodes(graph, "SaveVideo")[0]["video"]) == list(range(100))
        assert not server.prompts

    @pytest.mark.parametrize("urls", [(NO_SERVER,), (NO_SERVER, NO_OTHER_SERVER)])
    def test_without_a_server_the_official_names_stand_in(
        self, ask: Callable[..., Request], tmp_path: Path, urls: tuple[str, ...]
    ) -> None:
        files = export_workflow(ask(urls=urls), tmp_path / "graph.json")
        graph = json.loads(files[0].read_text(encoding="utf-8"))
        assert nodes(graph, "UNETLoader")[0]["unet_name"] == "wan2.2_s2v_14B_fp8_scaled.safetensors"
        assert nodes(graph, "SaveVideo")[0]["format"] == "mp4"


def test_patience_grows_with_the_work(ask: Callable[..., Request], monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = (plan(ask(frames=frames, timeout=None)) for frames in (9, 900))
    assert execution.patience_seconds(short) < execution.patience_seconds(long)
    assert execution.patience_seconds(plan(ask(timeout=7.0))) == 7.0


def test_errors_end_in_their_exit_codes(
    tune: Path, server: ContractServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def code(*arguments: str) -> int:
        size = ("--width", "64", "--height", "64", "--frames", "5", "--steps", "1", "--output-dir", tmp_path)
        return run_here(capsys, tune, *size, *arguments).code

    assert code("--url", NO_SERVER) == 5
    assert code("--url", "nonsense") == 2
    assert code("--url", server.url, "--vae", "none.safetensors") == 4
    server.faults.raises["VAEDecode"] = ("ValueError", "no\n")
    assert code("--url", server.url) == 5
