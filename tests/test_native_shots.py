"""Hard cuts in a native render: clips continue each other inside a shot, and nothing passes a cut."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from native_renders import CHAIN, chain_of, native_plan, rendered
from soundreel.engines.native import scene as native_scene
from soundreel.engines.native.chain import MOTION
from soundreel.engines.native.clips import first_motion
from soundreel.engines.native.prepared import find_files
from soundreel.engines.native.scene import encode_sound, poses
from soundreel.media.video import SegmentWriter
from soundreel.planning import chain_plan
from soundreel.types import Carry, Plan, RenderedClip
from soundreel.units import LEAD_IN_FRAMES, MODEL_FPS
from weight_files import needs_golden

pytestmark = needs_golden

CUT: dict[str, Any] = CHAIN | {"frames": 18, "cuts": (9 / MODEL_FPS,), "guide_scale": 1.0}
"""Two shots of two clips, 5 + 4 frames each."""

GREY_STEP = 8


@pytest.fixture(scope="module")
def planned() -> Plan:
    made = native_plan(**CUT)
    assert [[clip.frames for clip in shot.clips] for shot in made.shots] == [[5, 4], [5, 4]]
    return made


@pytest.fixture(scope="module")
def unbroken(planned: Plan) -> list[RenderedClip]:
    return rendered(planned)


def motion_of(clip: RenderedClip) -> Tensor:
    return torch.from_numpy(clip.carry.tensors[MOTION])


def assert_same(made: list[RenderedClip], expected: list[RenderedClip]) -> None:
    """Pictures, and what the clips hand on: the last one of a shot nothing."""
    for clip, other in zip(made, expected, strict=True):
        assert (clip.frames == other.frames).all()
        assert clip.carry.tensors.keys() == other.carry.tensors.keys()
        assert all(np.array_equal(clip.carry.tensors[name], other.carry.tensors[name]) for name in other.carry.tensors)


# a shot is a render of its own


def test_a_shot_is_what_it_is_as_a_render_of_its_own(
    planned: Plan, unbroken: list[RenderedClip], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given the same columns of the sound: what it hears of the whole window reaches into every column."""
    second = planned.shots[1]
    own = chain_plan(planned, planned.chains[1])
    begin = planned.first_sampled(second.clips[0])
    columns = encode_sound(planned, find_files(planned.request), torch.device("cpu"))[..., begin:]
    monkeypatch.setattr(native_scene, "encode_sound", lambda *_: columns)
    made = rendered(own)
    assert [clip.clip.index for clip in made] == [0, 1]
    assert_same(made, unbroken[2:])


def test_no_frame_passes_a_cut(unbroken: list[RenderedClip]) -> None:
    assert [list(clip.carry.tensors) for clip in unbroken] == [[MOTION], [], [MOTION], []]
    before, after = motion_of(unbroken[0]), motion_of(unbroken[2])
    assert before[:, -5:].abs().max() > 0
    assert after[:, -5:].abs().max() > 0
    assert after[:, :-5].abs().max() == 0, "grey before the shot's first frame, as at the beginning of a render"


def test_each_shot_hears_its_own_stretch_of_the_sound(planned: Plan) -> None:
    """Frame j is driven by column lead-in + j, in the lead-in of a later shot by what was heard before the cut."""
    for shot in planned.shots:
        first = shot.clips[0]
        assert planned.first_sampled(first) + first.lead_in == planned.lead_in + shot.start
        for clip, following in zip(shot.clips, shot.clips[1:], strict=False):
            assert planned.first_sampled(following) == planned.first_sampled(clip) + clip.size


# going on


@pytest.mark.parametrize("start", [1, 2, 3])
def test_a_render_goes_on_inside_a_shot_and_between_two(
    planned: Plan, unbroken: list[RenderedClip], start: int
) -> None:
    is_continued = planned.continues(planned.clips[start])
    assert is_continued == (start != 2)
    made = rendered(planned, start, unbroken[start - 1].carry if is_continued else Carry())
    assert_same(made, unbroken[start:])


# start-from-ref


def test_with_start_from_ref_every_shot_begins_behind_the_picture(tmp_path: Path, unbroken: list[RenderedClip]) -> None:
    picture = tmp_path / "face.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(picture)
    planned = native_plan(**CUT, ref_image=picture, start_from_ref=True)
    assert [clip.lead_in for clip in planned.clips] == [0] * len(planned.clips)
    for clip in planned.clips:
        chain = chain_of(planned, tmp_path, clip.index, unbroken[0].carry)
        motion = chain.motion_before(clip)
        assert motion is not None
        assert chain.reference is not None
        is_first = clip in [shot.clips[0] for shot in planned.shots]
        assert torch.equal(motion, first_motion(chain.reference) if is_first else motion_of(unbroken[0]))


# poses


@pytest.fixture(scope="module")
def pose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """At 16 frames per second, frame k grey of level 8·k."""
    path = tmp_path_factory.mktemp("pose") / "pose.mp4"
    with SegmentWriter(path, width=64, height=64, fps=MODEL_FPS, crf=0) as writer:
        writer.write(np.stack([np.full((64, 64, 3), GREY_STEP * k, dtype=np.uint8) for k in range(24)]))
    return path


@pytest.mark.parametrize("cuts", [(), (9,), (6,), (2, 3, 11), (1, 2, 3, 4)])
@pytest.mark.parametrize("split", ["even", "full"])
def test_every_frame_sees_the_pose_of_its_time(pose: Path, cuts: tuple[int, ...], split: str) -> None:
    """In shots of any length, whose clips sample surplus frames and lead-ins that lie in other shots."""
    times = [cut / MODEL_FPS for cut in cuts]
    planned = native_plan(**CUT | {"cuts": times, "frames": 16}, clip_split=split, pose_video=pose)
    assert len(planned.shots) == 1 + len(cuts)
    shown: list[int] = []
    for clip, window in zip(planned.clips, poses(planned, 0), strict=True):
        assert window is not None
        assert window.shape == (3, 1 + clip.size, 64, 64)
        first = 1 + clip.lead_in
        shown += [pose_number(window[:, first + k]) for k in range(clip.frames)]
        for k in range(clip.lead_in):
            assert pose_number(window[:, 1 + k]) == max(0, clip.start - LEAD_IN_FRAMES + k)
    assert shown == list(range(16))


def pose_number(pixels: Tensor) -> int:
    return round((float(pixels.mean()) + 1) * 127.5 / GREY_STEP)


@pytest.mark.parametrize("start", range(4))
def test_poses_go_on_as_they_were(pose: Path, start: int) -> None:
    planned = native_plan(**CUT, pose_video=pose)
    whole, rest = list(poses(planned, 0)), list(poses(planned, start))
    assert all(torch.equal(one, other) for one, other in pairs(rest, whole[start:]))


def pairs(ours: list[Tensor | None], expected: list[Tensor | None]) -> list[tuple[Tensor, Tensor]]:
    found = [(one, other) for one, other in zip(ours, expected, strict=True) if one is not None and other is not None]
    assert len(found) == len(expected)
    return found
