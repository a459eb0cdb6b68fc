"""Looks of clips: what drift measures, and how matching takes it away without a step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command import Outcome, run_here
from soundreel.render.colour import LARGEST_GAIN, TO_LINEAR, ColourStats, Correction, measure
from soundreel.render.post_processing import post_process
from soundreel.render.prepared import PreparedRender, ask, prepare
from soundreel.request import Request
from soundreel.types import RenderedClip


def linear(value: float) -> float:
    """sRGB 0–1 to linear light, by the formula of the standard."""
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def srgb(light: np.ndarray) -> np.ndarray:
    light = light.clip(0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(encoded * 255).astype(np.uint8)


def noise(mean: float, std: float, *, frames: int = 8, seed: int = 0) -> np.ndarray:
    """Pictures with a mean and standard deviation in linear light."""
    return srgb(np.random.default_rng(seed).normal(mean, std, (frames, 64, 64, 3)))


def test_a_grey_has_its_linear_light_and_no_contrast() -> None:
    look = measure(np.full((5, 8, 8, 3), 128, np.uint8))
    assert look.mean == pytest.approx([linear(128 / 255)] * 3)
    assert look.std == pytest.approx([0, 0, 0], abs=1e-7)


def test_half_black_half_white() -> None:
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    frames[:, :4] = 255
    look = measure(frames)
    assert (look.brightness, look.contrast) == (pytest.approx(0.5), pytest.approx(0.5))


def test_channels_are_kept_apart() -> None:
    frames = np.zeros((1, 8, 8, 3), np.uint8)
    frames[..., 0] = 255
    assert measure(frames).mean == (1.0, 0.0, 0.0)
    assert measure(frames).brightness == pytest.approx(0.2126)


def test_a_sample_of_pixels_tells_the_whole() -> None:
    frames = noise(0.3, 0.1, frames=16)
    light = TO_LINEAR[frames]
    assert measure(frames).mean == pytest.approx(light.mean(axis=(0, 1, 2)), rel=0.02)
    assert measure(frames).std == pytest.approx(light.std(axis=(0, 1, 2)), rel=0.02)


def test_a_correction_brings_one_look_to_another() -> None:
    drifted, wanted = noise(0.4, 0.06), measure(noise(0.3, 0.09))
    correction = Correction.between(measure(drifted), wanted)
    look = measure(np.stack([correction.apply(frame) for frame in drifted]))
    assert look.mean == pytest.approx(wanted.mean, rel=0.01)
    assert look.std == pytest.approx(wanted.std, rel=0.02)


def test_no_correction_leaves_every_value_as_it_is() -> None:
    values = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert (Correction.none().apply(values) == values).all()


def test_another_picture_is_not_taken_for_drift() -> None:
    gains = Correction.between(measure(noise(0.3, 0.01)), measure(noise(0.3, 0.1))).values[0]
    assert gains == pytest.approx([LARGEST_GAIN] * 3)


def test_a_flat_colour_gets_its_brightness_only() -> None:
    flat, wanted = np.full((1, 8, 8, 3), 100, np.uint8), ColourStats(mean=(0.5,) * 3, std=(0.2,) * 3)
    correction = Correction.between(measure(flat), wanted)
    assert correction.values[0] == pytest.approx([1, 1, 1])
    assert measure(correction.apply(flat[0])[None]).mean == pytest.approx([0.5] * 3, abs=0.01)


# over clips


@pytest.fixture
def matching(tune: Path) -> PreparedRender:
    return small_render(tune, frames=36, infer_frames=16, color_match=True)


def small_render(tune: Path, **fields: Any) -> PreparedRender:
    return prepare(ask(Request(audio=tune, width=64, height=64, engine="draft", **fields)))


def processed(render: PreparedRender, clips: list[np.ndarray]) -> list[np.ndarray]:
    """The pictures of clips, each with what the one before in its shot handed on."""
    before: Any = {}
    done = []
    for clip, frames in zip(render.plan.clips, clips, strict=True):
        given = before if render.plan.continues(clip) else {}
        made = post_process(render, RenderedClip(clip=clip, frames=frames), given)
        done.append(np.stack(list(made.pictures)))
        before = made.result().handed_on
    return done


def test_matching_holds_the_first_clip_s_look_and_makes_no_step(matching: PreparedRender) -> None:
    """Three clips whose brightness drifts away: after matching the last frames are as the first clip."""
    levels = [0.3, 0.36, 0.42]
    drifting = zip(matching.plan.clips, levels, strict=True)
    clips = [noise(level, 0.08, frames=clip.frames, seed=clip.index) for clip, level in drifting]
    matched = processed(matching, clips)
    assert (matched[0] == clips[0]).all()
    assert measure(matched[2][-1:]).brightness == pytest.approx(0.3, abs=0.005)
    brightness = [measure(frame[None]).brightness for clip in matched for frame in clip]
    jumps = np.abs(np.diff(brightness))
    drift = levels[1] - levels[0]
    assert jumps.max() < 1.2 * drift, "no larger than the step that the clips themselves make"
    inside = np.delete(jumps, [clip.start - 1 for clip in matching.plan.clips[1:]])
    assert inside.max() < drift / 4, "a clip glides"


def test_the_step_between_clips_is_the_rendered_one(matching: PreparedRender) -> None:
    """Clips that continue without a step still do: the correction goes on where it was."""
    ramp = np.linspace(0.3, 0.4, matching.plan.frames)
    texture = np.random.default_rng(0).normal(0, 0.05, (64, 64, 3))
    pictures = np.stack([srgb(level + texture) for level in ramp])
    matched = np.concatenate(processed(matching, [pictures[clip.start : clip.stop] for clip in matching.plan.clips]))
    brightness = np.array([measure(frame[None]).brightness for frame in matched])
    steps = np.abs(np.diff(brightness))
    joins = [clip.start - 1 for clip in matching.plan.clips[1:]]
    assert steps[joins].max() < 1.5 * np.delete(steps, joins).max()


def test_without_the_option_nothing_changes(tune: Path) -> None:
    plain = small_render(tune, frames=8)
    frames = noise(0.3, 0.1, frames=8)
    made = post_process(plain, RenderedClip(clip=plain.plan.clips[0], frames=frames), {})
    assert (np.stack(list(made.pictures)) == frames).all()
    assert (list(made.result().facts), dict(made.result().handed_on)) == (["look"], {})


# what is told


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    return lambda *arguments: run_here(capsys, *arguments)


def test_info_tells_the_drift_of_every_clip(
    soundreel: Callable[..., Outcome], tune: Path, cover: Path, tmp_path: Path
) -> None:
    words = "--width 64 --height 64 --frames 36 --infer-frames 16 --engine draft"
    soundreel("generate", tune, *words.split(), "--ref-image", cover, "-o", tmp_path / "a.mp4")
    told = soundreel("info", tmp_path / "a.mp4").out
    (heading,) = (line for line in told.splitlines() if line.split()[:2] == ["clip", "seed"])
    assert "against clip 1" in heading
    assert "reference" in heading
    rows = [line.split() for line in told.splitlines() if line.split()[:1] and line.split()[0] in {"1", "2", "3"}]
    assert len(rows) == 3
    assert rows[0][7:9] == ["1.00", "1.00"]
