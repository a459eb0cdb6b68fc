"""Golden cases of what surrounds the networks: solvers, sizes, pictures, poses, frames."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from parity.case import Case, Comparison, equal, largest, relative
from pictures import to_uint8
from soundreel.engines.native.inputs import (
    fit_pose,
    fit_reference,
)
from soundreel.media.pose import PoseMatch, pose_frame_indices
from soundreel.request.video_size import size_for_area
from soundreel.sampling import Solver, sample, shifted_schedule

SOLVER_LIMIT = 1e-6
SIGMA_LIMIT = 1e-6
PIXEL_LIMIT = 1e-5


def run_scheduler(case: Case) -> list[Comparison]:
    """The whole run: timesteps and sigmas, then latents and velocities after the steps that are stored."""
    params, stored = case.params, case.params["stored_steps"]
    schedule = shifted_schedule(Solver(params["solver"]), steps=params["steps"], shift=params["shift"])
    field = velocity_field(case["in.A"], case["in.B"], case["in.b"])
    velocities: list[Tensor] = []
    latents: list[Tensor] = []

    def velocity(x: Tensor, timestep: Tensor) -> Tensor:
        velocities.append(field(x, timestep))
        return velocities[-1]

    sample(velocity, case["in.x0"], schedule, on_step=lambda _, x: latents.append(x))
    return [
        equal("timesteps", list(schedule.timesteps), case["out.timesteps"].tolist()),
        largest("sigmas", torch.tensor(schedule.sigmas), case["out.sigmas"], SIGMA_LIMIT),
        relative("x", torch.stack([latents[i] for i in stored]), case["out.x"], SOLVER_LIMIT),
        relative("v", torch.stack([velocities[i] for i in stored]), case["out.v"], SOLVER_LIMIT),
    ]


def velocity_field(a: Tensor, b: Tensor, phase: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """v(x, t) = tanh(A·x) + t/1000·sin(B·x + b), the matrices mixing channels; x [B, C, F, h, w]."""

    def field(x: Tensor, timestep: Tensor) -> Tensor:
        ax, bx = (torch.einsum("oc,bcfhw->bofhw", matrix, x) for matrix in (a, b))
        return ax.tanh() + timestep / 1000 * torch.sin(bx + phase)

    return field


def run_size_selection(case: Case) -> list[Comparison]:
    """Each picture size and area on its own line, so that a wrong one is seen."""
    return [
        equal(
            f"{row['w']}×{row['h']} in {row['max_area']}",
            size_for_area(row["h"], row["w"], row["max_area"]),
            (row["H"], row["W"]),
        )
        for row in case.table["rows"]
    ]


def run_pose_frame_indices(case: Case) -> list[Comparison]:
    """The reference stops where the video ends."""
    return [_compare_indices(row) for row in case.table["rows"]]


def _compare_indices(row: dict[str, Any]) -> Comparison:
    ours = pose_frame_indices(row["fps"], row["wanted"], match=PoseMatch.REFERENCE)
    existing = [index for index in ours if index < row["total_frames"]]
    return equal(f"{row['fps']} fps, {row['total_frames']} frames", existing, row["indices"])


def run_resize_crop(case: Case) -> list[Comparison]:
    """Pictures by Pillow, exact; pose frames as float tensors."""
    return [_compare_picture(case, i, item) for i, item in enumerate(case.params["items"])]


def _compare_picture(case: Case, i: int, item: dict[str, Any]) -> Comparison:
    picture, expected = case[f"in.img_{i}"].numpy(), case[f"out.img_{i}"]
    name = f"{item['path']} {item['w']}×{item['h']} → {item['W']}×{item['H']}"
    if item["path"] == "pil":
        return largest(name, torch.from_numpy(fit_reference(picture, item["W"], item["H"])), expected, 0.0)
    return largest(name, fit_pose(picture, item["W"], item["H"]).movedim(0, -1), expected, PIXEL_LIMIT)


def run_video_to_uint8(case: Case) -> list[Comparison]:
    """Truncation, exact."""
    return [largest("frames", torch.from_numpy(to_uint8(case["in.video"])), case["out.frames"], 0.0)]


RUNNERS: dict[str, Callable[[Case], list[Comparison]]] = {
    "scheduler": run_scheduler,
    "size_selection": run_size_selection,
    "pose_frame_indices": run_pose_frame_indices,
    "resize_crop": run_resize_crop,
    "video_to_uint8": run_video_to_uint8,
}
