"""Shots of a storyboard in a native render: each with its own words, picture and poses, whatever the others have."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import numpy as np
import torch
from PIL import Image

from native_renders import ignore, native_plan, prepared, rendered
from soundreel.engines.native import NativeEngine
from soundreel.engines.native.clips import ClipDecoder
from soundreel.engines.native.networks import Networks
from soundreel.engines.native.scene import poses
from soundreel.media.video import SegmentWriter
from soundreel.types import Plan, RenderedClip
from soundreel.units import MODEL_FPS
from starts import starts_from
from weight_files import needs_golden

pytestmark = needs_golden

SMALL: dict[str, Any] = {"width": 32, "height": 32, "infer_frames": 8, "steps": 1, "guide_scale": 1.0}


def at(frame: int, **own: Any) -> dict[str, Any]:
    """A shot from a frame on."""
    return {"start": frame / MODEL_FPS, "seed": 40 + frame, **own}


def board(*shots: dict[str, Any], **fields: Any) -> Plan:
    return native_plan(**(SMALL | {"frames": 14, "shots": shots} | fields))


def same(one: RenderedClip, other: RenderedClip) -> bool:
    return bool((one.frames == other.frames).all())


def picture(folder: Path, name: str, colour: tuple[int, int, int]) -> Path:
    path = folder / name
    Image.new("RGB", (64, 64), colour).save(path)
    return path


def pose_video(path: Path) -> Path:
    """Thirty frames, each a little brighter than the one before."""
    with SegmentWriter(path, width=64, height=64, crf=0) as writer:
        writer.write(np.stack([np.full((64, 64, 3), 8 * k, np.uint8) for k in range(30)]))
    return path


def test_each_shot_is_drawn_from_its_own_words() -> None:
    both = rendered(board(at(0, prompt="red"), at(5, prompt="blue"), at(10)))
    red = rendered(board(at(0), at(5), at(10), prompt="red"))
    blue = rendered(board(at(0), at(5), at(10), prompt="blue"))
    assert [same(clip, other) for clip, other in zip(both, red, strict=True)] == [True, False, False]
    assert [same(clip, other) for clip, other in zip(both, blue, strict=True)] == [False, True, False]


def test_a_shot_that_continues_another_begins_where_it_ended() -> None:
    whole = board(at(0, prompt="red"), at(6, prompt="blue", cut="continue"), at(11))
    assert [(clip.start, clip.frames, clip.lead_in) for clip in whole.clips] == [
        (0, 5, 3), (5, 1, 0), (6, 5, 0), (11, 3, 3),
    ]  # fmt: skip
    clips = rendered(whole)
    again = rendered(whole, start=2, carry=clips[1].carry)
    assert all(map(same, clips[2:], again)), "with what the shot before handed on"
    changed = rendered(board(at(0, prompt="green"), at(6, prompt="blue", cut="continue"), at(11)))
    assert [same(clip, other) for clip, other in zip(clips, changed, strict=True)] == [False, False, False, True]


def test_each_shot_sees_its_own_picture(tmp_path: Path) -> None:
    red, blue = picture(tmp_path, "red.png", (200, 0, 0)), picture(tmp_path, "blue.png", (0, 0, 200))
    both = rendered(board(at(0), at(5, ref_image=blue), at(10), ref_image=red))
    only_red = rendered(board(at(0), at(5), at(10), ref_image=red))
    only_blue = rendered(board(at(0), at(5), at(10), ref_image=blue))
    assert [same(clip, other) for clip, other in zip(both, only_red, strict=True)] == [True, False, True]
    assert [same(clip, other) for clip, other in zip(both, only_blue, strict=True)] == [False, True, False]


def test_each_shot_starts_from_its_own_picture(tmp_path: Path) -> None:
    red, blue = picture(tmp_path, "red.png", (200, 0, 0)), picture(tmp_path, "blue.png", (0, 0, 200))
    both = rendered(board(at(0), at(5, ref_image=blue), at(10), ref_image=red, start_from_ref=True))
    only_blue = rendered(board(at(0), at(5), at(10), ref_image=blue, start_from_ref=True))
    assert [same(clip, other) for clip, other in zip(both, only_blue, strict=True)] == [False, True, False]


def test_shots_come_out_the_same_in_any_order(tmp_path: Path) -> None:
    """As they do where several processes take them: pictures, poses and what is handed on go with the shot."""
    red, blue = picture(tmp_path, "red.png", (200, 0, 0)), picture(tmp_path, "blue.png", (0, 0, 200))
    for_all, own = pose_video(tmp_path / "all.mp4"), pose_video(tmp_path / "own.mp4")
    whole = board(
        at(0, prompt="sun"), at(5, ref_image=blue), at(8, cut="continue", pose_video=own), at(10, ref_image=blue),
        ref_image=red, pose_video=for_all,
    )  # fmt: skip
    assert [[clip.index for clip in chain.clips] for chain in whole.chains] == [[0], [1, 2], [3]]
    starts = starts_from(whole, tmp_path)
    with NativeEngine() as engine:
        made = list(engine.render(prepared(whole), (starts[index] for index in (3, 1, 2, 0)), ignore))
    assert [clip.clip.index for clip in made] == [3, 1, 2, 0]
    in_order = rendered(whole)
    assert all(same(clip, in_order[clip.clip.index]) for clip in made)


def test_words_and_pictures_are_encoded_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    pictures: list[int] = []
    prompts, add_reference = Networks.prompts, ClipDecoder.add_reference

    def count_texts(self: Networks, placement: Any, wanted: Any, encode: Any) -> Any:
        return prompts(self, placement, wanted, lambda missing: [texts.extend(missing), encode(missing)][1])

    def count_pictures(self: ClipDecoder, shots: Any, reference: Any) -> None:
        pictures.append(len(shots))
        add_reference(self, shots, reference)

    monkeypatch.setattr(Networks, "prompts", count_texts)
    monkeypatch.setattr(ClipDecoder, "add_reference", count_pictures)
    red = picture(tmp_path, "red.png", (200, 0, 0))
    rendered(board(at(0, prompt="sun"), at(5, prompt="rain", ref_image=red), at(10, prompt="sun", ref_image=red)))
    assert (texts, pictures) == (["sun", "rain"], [2])


def test_a_shot_s_own_poses_begin_with_it(tmp_path: Path) -> None:
    video = pose_video(tmp_path / "pose.mp4")
    own = board(at(0), at(5, pose_video=video), at(10, pose_video=video, cut="continue"))
    assert [None if window is None else levels(window) for window in poses(own, 0)] == [
        None, [0, 0, 0, 0, 0, 1, 2, 3, 4], [0, 0, 1, 2, 3],
    ]  # fmt: skip
    whole = board(at(0), at(5), at(10, cut="continue"), pose_video=video)
    assert [levels(window) for window in poses(whole, 0) if window is not None][2] == [10, 10, 11, 12, 13]
    later = board(at(0), at(5, pose_video=video), audio_start=7 / MODEL_FPS, frames=5)
    assert [levels(window) for window in poses(later, 0) if window is not None] == [[0, 0, 0, 1, 2, 3, 4, 5, 6]]


def levels(window: torch.Tensor) -> list[int]:
    """The numbers of the pose frames in a window."""
    return [round((float(frame.mean()) + 1) * 127.5 / 8) for frame in window.movedim(1, 0)]


def test_shots_after_the_beginning_need_no_earlier_ones() -> None:
    plan = board(at(0, prompt="red"), at(5, prompt="blue"), at(10))
    assert same(rendered(plan, start=1)[0], rendered(plan)[1])
