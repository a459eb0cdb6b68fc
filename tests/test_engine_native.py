"""The native engine on tiny weights: whole renders, chained clips, and which sound drives which frame."""

import dataclasses
import shutil
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from command import Outcome, run_here
from native_renders import (
    CHAIN,
    SPEECH,
    chain_of,
    decoder_of,
    ignore,
    native_plan,
    native_request,
    prepared,
    printed,
    rendered,
)
from pictures import to_uint8
from soundreel.engines.native import NativeEngine
from soundreel.engines.native.block_placement import BlockPlacement, load_transformer
from soundreel.engines.native.chain import MOTION
from soundreel.engines.native.clips import REFERENCE_MOTION_FRAMES, ClipInput, ClipSampler
from soundreel.engines.native.denoiser import LocalDenoiser
from soundreel.engines.native.inputs import NO_POSE
from soundreel.engines.native.memory import MemoryPlan
from soundreel.engines.native.prepared import find_files, plan_schedule
from soundreel.engines.native.scene import encode_sound, poses, prepare_scene
from soundreel.engines.native.sound import feature_index, frame_features
from soundreel.engines.native.vae import Vae
from soundreel.errors import EngineError, InputError
from soundreel.media.video import SegmentWriter, probe_video
from soundreel.models.audio_tokens import with_lead
from soundreel.models.frame_packing import MOTION_FRAMES
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.pipeline import generate
from soundreel.request import AvAlign, Solver
from soundreel.types import RenderedClip
from soundreel.units import LEAD_IN_FRAMES, MODEL_FPS
from soundreel.weights.catalog import Component
from soundreel.weights.components import load_part
from soundreel.weights.precision import block_layers
from starts import starts_from
from weight_files import COMFY, OFFICIAL, needs_golden, relative_error, shape_only_file, writable_copy

pytestmark = needs_golden

CPU = torch.device("cpu")

FP8_ERROR = 0.08
"""Relative L2 over the pixels of a one-step render with fp8 transformer and text encoder; measured 0.037."""

QUICK: dict[str, Any] = {"width": 32, "height": 32, "frames": 5, "steps": 1}
"""One clip of two latent frames."""

THREE: dict[str, Any] = CHAIN | {"frames": 17}
"""Three clips, 5 + 8 + 4 frames."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny products gain nothing from more threads, and several test processes at once lose much."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def render(**fields: Any) -> list[RenderedClip]:
    return rendered(native_plan(**fields))


def pixels(folder: Path, **fields: Any) -> Tensor:
    """What a render into `folder`, where it is not there yet, decodes to, before it becomes uint8."""
    planned = native_plan(**fields)
    rendered(planned, folder=folder)
    return printed(planned, folder)


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("face") / "face.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 64, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def quick_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quick")


@pytest.fixture(scope="module")
def quick(face: Path, quick_folder: Path) -> list[RenderedClip]:
    return rendered(native_plan(**QUICK, ref_image=face), folder=quick_folder)


@pytest.fixture(scope="module")
def quick_pixels(quick: list[RenderedClip], face: Path, quick_folder: Path) -> Tensor:
    assert quick
    return printed(native_plan(**QUICK, ref_image=face), quick_folder)


@pytest.fixture(scope="module")
def chain() -> list[RenderedClip]:
    return render(**THREE)


# whole renders


def test_a_render_is_a_verified_video_of_exact_length(face: Path, tmp_path: Path) -> None:
    result = generate(native_request(**QUICK | {"steps": 2}, ref_image=face, output_dir=tmp_path))
    made = probe_video(result.path)
    assert (made.frames, made.fps, made.width, made.height) == (5, MODEL_FPS, 32, 32)
    assert result.engine == "native"
    assert "native" in result.path.name


def test_frames_are_pictures_and_not_one_colour(quick: list[RenderedClip], quick_pixels: Tensor) -> None:
    (clip,) = quick
    assert clip.frames.shape == (5, 32, 32, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.frames.std() > 5
    assert (clip.frames == to_uint8(quick_pixels)).all()


def test_one_seed_one_video(quick: list[RenderedClip], face: Path) -> None:
    again, other = render(**QUICK, ref_image=face), render(**QUICK, ref_image=face, seed=4)
    assert (again[0].frames == quick[0].frames).all()
    assert (other[0].frames != quick[0].frames).any()


def test_the_reference_image_matters_and_may_be_left_out(quick: list[RenderedClip]) -> None:
    without = render(**QUICK)
    assert without[0].frames.shape == quick[0].frames.shape
    assert (without[0].frames != quick[0].frames).any()


@pytest.mark.parametrize("solver", Solver)
def test_every_solver(solver: Solver) -> None:
    assert render(**QUICK | {"width": 16, "height": 16, "solver": solver})[0].frames.shape == (5, 16, 16, 3)


def test_few_step_sigmas() -> None:
    (clip,) = render(**QUICK | {"width": 16, "height": 16}, sigmas=(1.0, 0.6), guide_scale=1.0)
    assert clip.frames.shape == (5, 16, 16, 3)


# layouts


def test_comfyui_files_give_the_same_pictures(quick_pixels: Tensor, face: Path, tmp_path: Path) -> None:
    same = pixels(tmp_path, **QUICK, ref_image=face, models=COMFY)
    assert relative_error(same, quick_pixels) < 1e-5


def test_fp8_files_give_the_same_within_their_rounding(quick_pixels: Tensor, face: Path, tmp_path: Path) -> None:
    for name in (
        "diffusion_models/wan2.2_s2v_14B_fp8_scaled",
        "text_encoders/umt5_xxl_fp8_e4m3fn_scaled",
        "vae/wan_2.1_vae",
        "audio_encoders/wav2vec2_large_english_fp16",
    ):
        link = tmp_path / f"{name}.safetensors"
        link.parent.mkdir()
        link.symlink_to(COMFY / f"{name}.safetensors")
    near = pixels(tmp_path, **QUICK, ref_image=face, models=tmp_path)
    error = relative_error(near, quick_pixels)
    assert 1e-4 < error < FP8_ERROR


# guidance


@pytest.mark.parametrize(("guide_scale", "calls"), [(4.5, 4), (1.0, 2)])
def test_without_guidance_there_is_one_pass_per_step(
    monkeypatch: pytest.MonkeyPatch, guide_scale: float, calls: int
) -> None:
    counted, forward = [], WanS2VTransformer3DModel.forward

    def counting(self: WanS2VTransformer3DModel, *args: Any) -> Tensor:
        counted.append(args)
        return forward(self, *args)

    monkeypatch.setattr(WanS2VTransformer3DModel, "forward", counting)
    render(**QUICK | {"width": 16, "height": 16, "steps": 2, "guide_scale": guide_scale})
    assert len(counted) == calls


# clips


def test_clips_are_chained_and_resumed_as_if_unbroken(chain: list[RenderedClip]) -> None:
    assert [len(clip.frames) for clip in chain] == [5, 8, 4]
    second, third = rendered(native_plan(**THREE), start=1, carry=chain[0].carry)
    assert (second.frames == chain[1].frames).all()
    assert (second.carry.tensors[MOTION] == chain[1].carry.tensors[MOTION]).all()
    assert (third.frames == chain[2].frames).all()


def test_the_carry_is_the_last_frames_as_float(chain: list[RenderedClip]) -> None:
    first, second = (torch.from_numpy(clip.carry.tensors[MOTION]) for clip in chain[:2])
    assert first.shape == second.shape == (3, MOTION_FRAMES, 64, 64)
    assert first[:, :-5].abs().max() == 0, "grey where there were no frames yet"
    assert torch.equal(second[:, :-8], first[:, 8:])
    assert (to_uint8(second[:, -8:]) == chain[1].frames).all()
    assert not chain[2].carry.tensors, "nothing continues the last clip"


def test_start_from_ref_keeps_every_frame_and_begins_behind_the_picture(face: Path, tmp_path: Path) -> None:
    planned = native_plan(**CHAIN | {"frames": 4}, ref_image=face, start_from_ref=True)
    assert [(clip.size, clip.lead_in) for clip in planned.clips] == [(4, 0)]
    chain = chain_of(planned, tmp_path)
    motion, reference = chain.motion_before(planned.clips[0]), chain.reference
    assert motion is not None
    assert reference is not None
    assert motion.shape == (3, MOTION_FRAMES, 64, 64)
    assert torch.equal(motion[:, -REFERENCE_MOTION_FRAMES:], reference.expand(-1, REFERENCE_MOTION_FRAMES, -1, -1))
    assert motion[:, :-REFERENCE_MOTION_FRAMES].abs().max() == 0
    assert rendered(planned)[0].frames.shape == (4, 64, 64, 3)


# pose


@pytest.fixture(scope="module")
def short_pose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames at 16 fps, each brighter than the one before."""
    path = tmp_path_factory.mktemp("pose") / "pose.mp4"
    with SegmentWriter(path, width=32, height=32, fps=MODEL_FPS, crf=0) as writer:
        writer.write(np.stack([np.full((32, 32, 3), 40 + 40 * k, dtype=np.uint8) for k in range(4)]))
    return path


def levels(pose: Path, **fields: Any) -> list[int]:
    """Brightness of each pose frame of the plan, 0–255; the window's own doubled first frame left out."""
    planned = native_plan(**QUICK | {"frames": 13, "infer_frames": 8}, pose_video=pose, **fields)
    windows = [window for window in poses(planned, 0) if window is not None]
    assert [window.shape[1] for window in windows] == [1 + clip.size for clip in planned.clips]
    return [round((float(frame.mean()) + 1) * 127.5) for window in windows for frame in window[:, 1:].unbind(1)]


def test_a_short_pose_video_holds_its_last_frame(short_pose: Path) -> None:
    found = levels(short_pose)
    expected = [40] * (1 + LEAD_IN_FRAMES) + [80, 120] + [160] * 10
    assert found == pytest.approx(expected, abs=3)


def test_as_in_the_reference_a_short_pose_video_ends_in_black(short_pose: Path) -> None:
    found = levels(short_pose, av_align=AvAlign.REFERENCE)
    assert found == pytest.approx([40, 80, 120, 160] + [round((NO_POSE + 1) * 127.5)] * 12, abs=3)


@pytest.mark.parametrize(
    ("align", "says"),
    [
        (AvAlign.SOUND, "0.56 s shorter than the render: for that long its last pose is held"),
        (AvAlign.REFERENCE, "0.75 s shorter than the render: for that long there is no pose"),
    ],
)
def test_a_pose_video_shorter_than_the_plan_is_said(short_pose: Path, align: AvAlign, says: str) -> None:
    planned = native_plan(**QUICK | {"frames": 13, "infer_frames": 8}, pose_video=short_pose, av_align=align)
    (note,) = prepared(planned).notes
    assert says in note


def test_poses_move_the_picture(short_pose: Path, quick: list[RenderedClip], face: Path) -> None:
    posed = render(**QUICK, ref_image=face, pose_video=short_pose)
    assert (posed[0].frames != quick[0].frames).any()


# which sound drives which frame


@pytest.fixture(scope="module")
def transformer() -> WanS2VTransformer3DModel:
    return load_transformer(prepared(native_plan(**QUICK)).placement).network


def first_changed(before: Tensor, after: Tensor) -> int:
    """Index along the first axis where two tensors begin to differ."""
    return int((before != after).flatten(1).any(dim=1).nonzero()[0])


@torch.no_grad()
def test_a_feature_column_is_heard_first_by_the_latent_frame_of_its_picture(
    transformer: WanS2VTransformer3DModel,
) -> None:
    shapes = transformer.inputs
    silence = torch.zeros(shapes.audio_states, shapes.audio_width, 16)
    quiet = transformer.audio_encoder(with_lead(silence)).without_lead()
    for column in range(16):
        impulse = silence.clone()
        impulse[:, :, column] = 1.0
        heard = transformer.audio_encoder(with_lead(impulse)).without_lead()
        for before, after in zip(quiet, heard, strict=True):
            assert first_changed(before, after) == column // 4


@pytest.mark.parametrize(("shift", "frames_early"), [(LEAD_IN_FRAMES, 0), (0, LEAD_IN_FRAMES)])
def test_an_impulse_at_t_seconds_drives_the_frame_at_t_seconds(shift: int, frames_early: int) -> None:
    """With `AvAlign.SOUND` exactly, with `AvAlign.REFERENCE` the frame that is shown 3 frames before."""
    for frame in range(1 + frames_early, 40):  # frame 0's column is repeated over the lead-in
        features = torch.zeros(2, 90, 3)
        features[:, feature_index(frame)] = 1.0
        columns = frame_features(features, 50, shift=shift)
        output_frame = int(columns.sum(dim=(0, 1)).argmax()) - LEAD_IN_FRAMES
        assert output_frame == frame - frames_early


def test_the_plan_s_sound_is_shifted_by_its_lead_in(face: Path) -> None:
    def sound(**fields: Any) -> Tensor:
        planned = native_plan(**QUICK | {"frames": 32, "infer_frames": 16}, **fields)
        return encode_sound(planned, find_files(planned.request), CPU)

    ours, reference = sound(), sound(av_align=AvAlign.REFERENCE)
    assert torch.equal(ours[:, :, LEAD_IN_FRAMES:35], reference[:, :, : 35 - LEAD_IN_FRAMES])
    assert torch.equal(ours[:, :, 0], ours[:, :, LEAD_IN_FRAMES])
    assert torch.equal(sound(ref_image=face, start_from_ref=True), reference[:, :, :32]), "no lead-in, no shift"


@pytest.mark.parametrize("changed", [0, 1])
def test_sound_changes_its_own_clip_and_no_other(
    chain: list[RenderedClip], transformer: WanS2VTransformer3DModel, changed: int
) -> None:
    """Given the same motion frames: what a clip does to later ones goes through its pictures."""
    planned = native_plan(**THREE)
    clip, scene = planned.clips[changed], prepare_scene(prepared(planned))
    sound, begin = scene.sounds[0].clone(), planned.first_sampled(clip)
    sound[:, :, begin : begin + clip.size] *= -1
    decoder = decoder_of(planned)
    sampler = ClipSampler(
        denoiser=LocalDenoiser(transformer),
        decoder=decoder,
        scene=dataclasses.replace(scene, sounds=[sound]),
        schedule=plan_schedule(planned.request),
        guide_scale=planned.request.sampling.guide_scale,
    )
    motions = [None, torch.from_numpy(chain[0].carry.tensors[MOTION])]
    for clip, motion, before in zip(planned.clips[:2], motions, chain[:2], strict=True):
        given = ClipInput(clip=clip, first_sampled=planned.first_sampled(clip), motion=motion)
        frames = to_uint8(decoder.decode(sampler.sample(given, 64, 64), clip)[:, : clip.frames])
        assert (frames != before.frames).any() == (clip.index == changed)


def test_clips_take_up_the_sound_where_the_one_before_left_it() -> None:
    planned = native_plan(**CHAIN | {"frames": 40, "infer_frames": 16})
    begins = [planned.first_sampled(clip) for clip in planned.clips]
    assert begins == [sum(clip.size for clip in planned.clips[:k]) for k in range(len(begins))]


# what goes wrong


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def run(models: Path, *arguments: str) -> Outcome:
        native = ("--engine", "native", "--device", "cpu", "--models", models)
        return run_here(capsys, "generate", SPEECH, *native, "--width", "32", "--height", "32", *arguments)

    return run


def change_transformer(folder: Path, change: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
    """Rewrite tensors of a writable checkpoint in the official layout."""
    for path in folder.glob("diffusion_pytorch_model-*.safetensors"):
        tensors = load_file(path)
        save_file({name: change[name](value) if name in change else value for name, value in tensors.items()}, path)


def test_nan_in_the_weights_stops_at_the_first_step_and_says_so(
    soundreel: Callable[..., Outcome], tmp_path: Path
) -> None:
    broken = writable_copy(OFFICIAL, tmp_path / "model")
    change_transformer(broken, {"head.head.bias": lambda bias: bias * float("nan")})
    done = soundreel(broken, "--frames", "5", "--steps", "3", "-o", str(tmp_path / "v.mp4"), "--quiet")
    assert done.code == 5
    assert done.err.startswith("soundreel: the latents hold NaN or infinite values after step 1 of 3 (timestep 9")
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "v.mp4").exists()


def remove_vae(folder: Path) -> None:
    (folder / "Wan2.1_VAE.pth").unlink()


def replace_by_t2v(folder: Path) -> None:
    for path in folder.glob("diffusion_pytorch_model*"):
        path.unlink()
    shapes = {"head.modulation": (1, 2, 64), "patch_embedding.weight": (64, 16, 1, 2, 2)}
    shape_only_file(folder / "diffusion_pytorch_model.safetensors", shapes)


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (remove_vae, "no VAE (Wan2.1_VAE.pth"),
        (replace_by_t2v, "is a Wan T2V transformer, not S2V"),
        (empty, "there are no weights of Wan 2.2 S2V in"),
    ],
)
def test_wrong_models_are_one_line_and_code_4(
    soundreel: Callable[..., Outcome], tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    models = writable_copy(OFFICIAL, tmp_path / "model")
    damage(models)
    done = soundreel(models)
    assert done.code == 4
    assert says in done.err
    assert "soundreel models download" in done.err
    assert (len(done.err.splitlines()), done.out) == (1, "")


def test_a_gpu_that_is_too_small_is_named_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    planned, free = native_plan(**QUICK), {"bytes": 2**40}
    monkeypatch.setattr("soundreel.engines.native.device.free_memory", lambda *_: free["bytes"])
    prepared(planned)
    free["bytes"] = 2**20
    with pytest.raises(
        EngineError,
        match=r"32×32 in clips of 80 needs at least \d+.\d GB of the GPU, .* has 0.0 GB free: take --memory",
    ):
        prepared(planned)


def test_an_unknown_device_is_wrong_input() -> None:
    with pytest.raises(InputError, match="--device is 'gpu': expected auto, cpu, cuda"):
        prepared(native_plan(**QUICK, device="gpu"))


def test_weights_that_were_rounded_are_let_go_at_once() -> None:
    """Or all of the 16-bit weights would be in memory at the end, which a capped GPU has no room for."""
    part = find_files(native_request())[Component.TRANSFORMER]
    blocks = BlockPlacement(MemoryPlan(rounds=True, blocks=4), [])
    before: list[weakref.ref[torch.nn.Parameter]] = []

    def on_part(name: str, block: torch.nn.Module) -> None:
        assert all(weight() is None for weight in before)
        before.extend(weakref.ref(getattr(holder, leaf).weight) for holder, leaf in block_layers(block))
        blocks(name, block)

    load_part(part, WanS2VTransformer3DModel, device=CPU, dtype=torch.float32, on_part=on_part)
    assert before
    assert all(weight() is None for weight in before)


def test_what_fails_in_a_clip_fails_when_its_turn_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The finished clip comes first: it is not lost to the next one's failure."""
    decided = prepared(native_plan(**CHAIN))
    clips = NativeEngine().render(decided, starts_from(decided.plan, tmp_path), ignore)
    plain_encode = Vae.encode

    def encode(vae: Vae, pixels: Tensor) -> Tensor:
        if pixels.shape[1] == MOTION_FRAMES:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain_encode(vae, pixels)

    monkeypatch.setattr(Vae, "encode", encode)
    assert next(clips).clip.index == 0
    with pytest.raises(EngineError, match="ran out of memory"):
        next(clips)
