"""Cases of what surrounds the networks: solvers, sizes, pictures, poses, frames."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from references.folder import Folder
from references.official import official, official_pipeline, official_saving, quiet
from references.stand_ins import Frames

SCHEDULES = [
    *(("unipc", steps, shift) for shift in (3.0, 5.0) for steps in (4, 10, 40)),
    *(("dpm++", steps, shift) for shift in (3.0, 5.0) for steps in (4, 10, 40)),
    *(("unipc", 1, 3.0), ("unipc", 2, 3.0), ("dpm++", 2, 3.0), ("dpm++", 16, 3.0)),
]
"""Solver, steps, shift; DPM++ treats the end of fewer than 15 steps otherwise."""

SHAPES = [
    (720, 1280), (1104, 832), (480, 832), (512, 512), (1080, 1920), (3000, 2000), (64, 64), (100, 1000), (333, 777),
    (4000, 4000), (540, 960), (704, 1024), (701, 1023), (65, 65), (50, 70),
]  # fmt: skip
"""Height and width of pictures; each is also laid on its side."""

AREAS = (480 * 832, 704 * 1024, 720 * 1280, 704 * 1280)

POSES = [
    (30.0, 50, 40), (50.0, 350, 80), (25.0, 100, 160), (16.0, 20, 16), (24.0, 300, 96), (60.0, 200, 48),
    (12.0, 30, 40), (29.97, 60, 16), (8.0, 10, 16),
]  # fmt: skip
"""Rate and length of a pose video, and frames wanted."""

PICTURES = [
    (90, 140, 64, 128),
    (140, 90, 128, 64),
    (70, 70, 64, 64),
    (50, 70, 64, 64),
    (64, 96, 64, 128),
    (37, 53, 64, 64),
]
POSE_FRAMES = [(60, 100, 64, 128), (54, 96, 64, 64), (48, 64, 64, 128)]
"""Height and width before and after."""


def write_plumbing_cases(folder: Folder) -> None:
    """Write all."""
    with quiet():
        write_schedules(folder)
        write_sizes(folder)
        write_pose_indices(folder)
        write_fitted(folder)
        write_bytes(folder)


def write_schedules(folder: Folder) -> None:
    """Runs of both solvers along a velocity field that both sides compute alike."""
    for solver, steps, shift in SCHEDULES:
        name = f"sched_{solver.replace('+', 'p')}_shift{shift:.0f}_steps{steps}"
        numbers = folder.normal(name)
        given = {
            "x0": numbers(1, 16, 2, 4, 4),
            "A": numbers(16, 16) / 4,
            "B": numbers(16, 16) / 4,
            "b": numbers(1, 16, 1, 1, 1),
        }
        stored = list(range(steps)) if steps <= 16 else [0, 1, 2, 20, steps - 2, steps - 1]
        params = {"solver": solver, "steps": steps, "shift": shift, "stored_steps": stored}
        folder.case(name, "scheduler", params, given, _walk(scheduler(solver, steps, shift), given, stored))


def scheduler(solver: str, steps: int, shift: float) -> Any:
    """The official one, set as the pipeline sets it."""
    if solver == "unipc":
        made = official("utils.fm_solvers_unipc").FlowUniPCMultistepScheduler(
            num_train_timesteps=1000, shift=1, use_dynamic_shifting=False
        )
        made.set_timesteps(steps, device="cpu", shift=shift)
        return made
    module = official("utils.fm_solvers")
    made = module.FlowDPMSolverMultistepScheduler(num_train_timesteps=1000, shift=1, use_dynamic_shifting=False)
    module.retrieve_timesteps(made, device="cpu", sigmas=module.get_sampling_sigmas(steps, shift))
    return made


def _walk(solver: Any, given: dict[str, Tensor], stored: list[int]) -> dict[str, Tensor]:
    """v(x, t) = tanh(A·x) + t/1000·sin(B·x + b) over x [B, C, F, h, w], A and B mixing channels."""
    x, latents, velocities = given["x0"], [], []
    for t in solver.timesteps:
        a, b = (torch.einsum("oc,bcfhw->bofhw", given[matrix], x) for matrix in "AB")
        velocities.append(torch.tanh(a) + t / 1000 * torch.sin(b + given["b"]))
        x = solver.step(velocities[-1], t, x, return_dict=False)[0]
        latents.append(x)
    return {
        "timesteps": solver.timesteps,
        "sigmas": solver.sigmas.float(),
        "x": torch.stack([latents[step] for step in stored]),
        "v": torch.stack([velocities[step] for step in stored]),
    }


def write_sizes(folder: Folder) -> None:
    """The size of a video by its picture and the area allowed."""
    fit = official_pipeline().WanS2V.get_size_less_than_area
    rows = []
    for height, width in [*SHAPES, *((width, height) for height, width in SHAPES)]:
        for area in AREAS:
            rows_, columns = fit(None, height, width, target_area=area)
            rows.append({"h": height, "w": width, "max_area": area, "H": rows_, "W": columns})
    folder.table("size_selection", "size_selection", {"rows": rows})


class ListedVideo:
    """A video of which only rate and length are known; it remembers which frames were asked for."""

    asked: Sequence[int] = ()

    def __init__(self, rate: float, frames: list[np.ndarray] | int) -> None:
        self._rate, self._frames = rate, frames

    def __len__(self) -> int:
        return self._frames if isinstance(self._frames, int) else len(self._frames)

    def get_avg_fps(self) -> float:
        """Frames per second."""
        return self._rate

    def get_batch(self, indices: Sequence[int]) -> Frames:
        """The frames, or empty ones."""
        self.asked = list(indices)
        known = isinstance(self._frames, list)
        return Frames([self._frames[index] if known else np.zeros((1, 1, 3)) for index in indices])


def write_pose_indices(folder: Folder) -> None:
    """Which frames of a pose video are taken."""
    module, rows = official_pipeline(), []
    for rate, total, wanted in POSES:
        video = ListedVideo(rate, total)
        with patch.object(module, "VideoReader", lambda _, video=video: video):
            module.WanS2V.read_last_n_frames(None, "", n_frames=wanted, target_fps=16, reverse=True)
        rows.append({"fps": rate, "total_frames": total, "wanted": wanted, "indices": video.asked})
    folder.table("pose_frame_indices", "pose_frame_indices", {"rows": rows})


def write_fitted(folder: Folder) -> None:
    """Pictures (bytes) and pose frames (−1…1) to the video's size: what the official calls of torchvision do."""
    items, given, expected = [], {}, {}
    for path, sizes in (("pil", PICTURES), ("tensor", POSE_FRAMES)):
        for h, w, rows, columns in sizes:
            number = len(items)
            picture = _grainy(folder, f"resize_crop_{number}", h, w)
            fit = fitted_picture if path == "pil" else fitted_pose
            items.append({"h": h, "w": w, "H": rows, "W": columns, "path": path})
            given[f"img_{number}"] = torch.from_numpy(picture)
            expected[f"img_{number}"] = fit(picture, rows, columns)
    folder.case("resize_crop", "resize_crop", {"items": items}, given, expected)


def _grainy(folder: Folder, name: str, height: int, width: int) -> np.ndarray:
    return (128 + 64 * folder.normal(name)(height, width, 3)).clamp(0, 255).byte().numpy()


def fitted_picture(picture: np.ndarray, height: int, width: int) -> Tensor:
    """As `generate` does it with the reference image."""
    transforms = official_pipeline().transforms
    resized = transforms.Resize(min(height, width))(Image.fromarray(picture))
    return torch.from_numpy(np.array(transforms.CenterCrop((height, width))(resized)))


def fitted_pose(picture: np.ndarray, height: int, width: int) -> Tensor:
    """As `load_pose_cond` does it: the picture that it would encode, of a video of one frame."""
    module, encoded = official_pipeline(), []
    vae = SimpleNamespace(encode=lambda videos: encoded.append(videos) or [torch.zeros(16, 2, 1, 1)])
    pipeline = SimpleNamespace(
        fps=16, vae=vae, param_dtype=torch.float32, device="cpu", read_last_n_frames=lambda *_, **__: picture[None]
    )
    module.WanS2V.load_pose_cond(pipeline, "pose", 1, 4, (height, width))
    frame: Tensor = encoded[0][0, :, 0]
    return frame.permute(1, 2, 0)


def write_bytes(folder: Folder) -> None:
    """Float frames to bytes, as they are saved."""
    video = 0.8 * folder.normal("video_to_uint8")(3, 4, 8, 8)
    video[:, 0, 0, :4] = torch.tensor([-1.0, 1.0, -7.0, 7.0])
    frames = torch.from_numpy(np.stack(saved_frames(video)))
    folder.case("video_to_uint8", "video_to_uint8", {}, {"video": video}, {"frames": frames})


def saved_frames(video: Tensor) -> list[np.ndarray]:
    """The frames [H, W, 3] that the official `save_video` gives to its writer, of a video [3, T, H, W]."""
    written: list[np.ndarray] = []
    writer = SimpleNamespace(append_data=written.append, close=lambda: None)
    module = official_saving()
    with patch.object(module.imageio, "get_writer", lambda *_, **__: writer):
        module.save_video(video[None], str(Path("unused.mp4")), fps=16, nrow=1, normalize=True, value_range=(-1, 1))
    return written
