"""Cases of whole renders: the official `WanS2V.generate` on the tiny checkpoint, listened to on the way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from references.encoder_cases import audio_encoder, text_encoder, vae
from references.folder import Folder
from references.media import LONG, POSE, SPEECH, SQUARE, STEREO, WIDE
from references.networks import Networks
from references.official import official_config, official_pipeline, quiet
from references.plumbing_cases import saved_frames

CPU = torch.device("cpu")
SINGING = "a person is singing"

DEFAULTS: dict[str, Any] = {
    "input_prompt": SINGING,
    "n_prompt": "",
    "num_repeat": None,
    "infer_frames": 16,
    "shift": 3.0,
    "sample_solver": "unipc",
    "sampling_steps": 2,
    "guide_scale": 4.5,
    "init_first_frame": False,
    "max_area": 64 * 64,
}


@dataclass(frozen=True, kw_only=True)
class Render:
    """One call of `generate`: its files and arguments; every how many frames of the video are stored."""

    image: str = SQUARE
    sound: str = SPEECH
    pose: str | None = None
    args: dict[str, Any] = field(default_factory=dict)
    every: int = 1

    @property
    def arguments(self) -> dict[str, Any]:
        """All of them."""
        return DEFAULTS | self.args

    def files(self) -> dict[str, str]:
        """By the name of their argument, relative to the folder."""
        named = {"ref_image_path": self.image, "audio_path": self.sound, "pose_video": self.pose}
        return {name: f"inputs/{file}" for name, file in named.items() if file}


RENDERS = {
    "e2e_1clip": Render(args={"num_repeat": 1, "sampling_steps": 3, "seed": 42}),
    "e2e_2clip_pose": Render(
        image=WIDE,
        sound=STEREO,
        pose=POSE,
        args={
            "input_prompt": "A white cat  sings on the beach, 夏日海滩",
            "infer_frames": 20,
            "sampling_steps": 2,
            "seed": 7,
            "max_area": 64 * 128,
        },
        every=2,
    ),
    "e2e_2clip_dpmpp_nocfg": Render(
        sound=STEREO,
        args={"num_repeat": 2, "sample_solver": "dpm++", "sampling_steps": 3, "guide_scale": 1.0, "seed": 11},
    ),
    "e2e_1clip_start_from_ref": Render(
        args={"num_repeat": 1, "init_first_frame": True, "n_prompt": "blurry, ugly", "shift": 5.0, "seed": 3}
    ),
    "e2e_2clip_80frames": Render(sound=LONG, args={"infer_frames": 80, "guide_scale": 1.0, "seed": 5}, every=4),
}


def write_render_cases(folder: Folder, networks: Networks, only: Sequence[str] = tuple(RENDERS)) -> None:
    """Write those asked for, all by default."""
    with quiet():
        pipeline = build_pipeline(folder, networks)
        for name in only:
            write_render(folder, name, RENDERS[name], pipeline)


def build_pipeline(folder: Folder, networks: Networks) -> Any:
    """`WanS2V` without its constructor, which loads full-size networks onto a GPU."""
    config = official_config()
    pipeline = object.__new__(official_pipeline().WanS2V)
    vars(pipeline).update(
        device=CPU,
        rank=0,
        t5_cpu=True,
        init_on_cpu=False,
        param_dtype=torch.float32,
        num_train_timesteps=config.num_train_timesteps,
        sample_neg_prompt=config.sample_neg_prompt,
        motion_frames=config.transformer.motion_frames,
        drop_first_motion=config.drop_first_motion,
        fps=config.sample_fps,
        audio_sample_m=0,
        noise_model=networks.transformer,
        text_encoder=text_encoder(folder),
        audio_encoder=audio_encoder(folder),
        vae=vae(folder),
    )
    return pipeline


@dataclass
class Heard:
    """What passed through the networks of a render."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    encoded: list[Tensor] = field(default_factory=list)
    decoded: list[Tensor] = field(default_factory=list)
    texts: list[Tensor] = field(default_factory=list)
    sounds: list[Tensor] = field(default_factory=list)

    def listening(self, pipeline: Any) -> dict[str, Any]:
        """The pipeline's networks, each of which reports here."""
        coding = pipeline.vae
        return {
            "noise_model": self._transformer(pipeline.noise_model),
            "text_encoder": _reporting(pipeline.text_encoder, lambda rows: self.texts.append(rows[0])),
            "encode_audio": _reporting(pipeline.encode_audio, lambda result: self.sounds.append(result[0])),
            "vae": SimpleNamespace(
                dtype=torch.float32,
                device=CPU,
                encode=_reporting(coding.encode, lambda latents: self.encoded.append(torch.stack(latents))),
                decode=lambda latents: self.decoded.append(latents.clone()) or coding.decode(latents),
            ),
        }

    def _transformer(self, network: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
        def call(latents: list[Tensor], *, t: Tensor, **conditions: Any) -> list[Tensor]:
            velocities = network(latents, t=t, **conditions)
            kept = {"x": latents[0].clone(), "t": int(t[0]), "v": velocities[0].clone()}
            self.calls.append(conditions | kept)
            return velocities

        return call


def _reporting(function: Callable[..., Any], report: Callable[[Any], object]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        report(result)
        return result

    return call


def write_render(folder: Folder, name: str, render: Render, pipeline: Any) -> None:
    """Generate, and write what a case holds."""
    heard, args = Heard(), render.arguments
    files = {argument: str(folder.path / file) for argument, file in render.files().items()}
    with (
        patch.multiple(pipeline, create=True, **heard.listening(pipeline)),
        patch.object(official_pipeline(), "tqdm", iter),
    ):
        video = pipeline.generate(
            **files, **args, enable_tts=False, tts_prompt_audio=None, tts_prompt_text=None, tts_text=None,
            offload_model=False,
        )  # fmt: skip
    clips = _clips(heard, guided=args["guide_scale"] > 1, steps=args["sampling_steps"])
    given = {f"clip{number}.noise": clip["x"][0] for number, clip in enumerate(clips)}
    expected = _whole(heard, video, render.every, args["guide_scale"] > 1)
    for number, (clip, decoded) in enumerate(zip(clips, heard.decoded, strict=True)):
        frames = clip["x"].shape[2]
        expected |= {f"clip{number}.{key}": value for key, value in _of_clip(clip, render.pose is not None).items()}
        expected[f"clip{number}.latents"] = decoded[0, :, -frames:]
    params = {"files": render.files(), "args": args, "clips": len(clips), "frames": video.shape[1]}
    folder.case(name, "end_to_end", params | {"H": video.shape[2], "W": video.shape[3]}, given, expected)


def _clips(heard: Heard, *, guided: bool, steps: int) -> list[dict[str, Any]]:
    """Per clip the latents that enter each step, timesteps, and the conditions of the first call."""
    calls = heard.calls[:: 2 if guided else 1]
    clips = []
    for begin in range(0, len(calls), steps):
        own = calls[begin : begin + steps]
        stacked = {
            "x": torch.stack([call["x"] for call in own]),
            "timesteps": torch.tensor([call["t"] for call in own]),
        }
        clips.append(own[0] | stacked)
    return clips


def _of_clip(clip: dict[str, Any], posed: bool) -> dict[str, Tensor]:
    found = {name: clip[name] for name in ("timesteps", "motion_latents", "x")}
    return found | ({"cond_latents": clip["cond_states"]} if posed else {})


def _whole(heard: Heard, video: Tensor, every: int, guided: bool) -> dict[str, Tensor]:
    frames = torch.stack([torch.from_numpy(frame) for frame in saved_frames(video)])
    context, context_null = heard.texts
    found = {
        "ref_latents": heard.encoded[0],
        "motion_latents_after": heard.encoded[-1],
        "context": context,
        "audio_emb": heard.sounds[0],
        "video_last_frame": video[:, -1],
        "video_u8": frames.permute(3, 0, 1, 2)[:, ::every],
    }
    found |= {"context_null": context_null} if guided else {}
    return found | ({"video": video} if every == 1 else {})
