"""Design §4: clips cover exactly N frames, and nothing is made that nobody asked for."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundreel.errors import InputError
from soundreel.planning import count_tokens, plan
from soundreel.request import ClipSplit, Request
from soundreel.types import Plan
from soundreel.units import LEAD_IN_FRAMES

HOUR = 3600.0


def plan_frames(frames: int, infer_frames: int = 80, split: ClipSplit = ClipSplit.EVEN, **options: object) -> Plan:
    request = Request(audio="a.wav", frames=frames, infer_frames=infer_frames, clip_split=split, **options)  # type: ignore[arg-type]
    return plan(request, HOUR)


def lengths(planned: Plan) -> list[int]:
    return [clip.frames for clip in planned.clips]


def sizes(planned: Plan) -> list[int]:
    return [clip.size for clip in planned.clips]


clip_sizes = st.integers(1, 40).map(lambda latents: 4 * latents)
frame_counts = st.integers(1, 20_000)


@given(frame_counts, clip_sizes, st.sampled_from(ClipSplit))
def test_clips_cover_exactly_n_frames_in_order(frames: int, infer_frames: int, split: ClipSplit) -> None:
    clips = plan_frames(frames, infer_frames, split).clips
    assert clips[0].start == 0
    assert clips[-1].stop == frames
    assert all(after.start == before.stop for before, after in pairwise(clips))
    assert all(clip.frames >= 1 for clip in clips)


@given(frame_counts, clip_sizes, st.sampled_from(ClipSplit))
def test_every_size_is_a_multiple_of_four_within_the_limit(frames: int, infer_frames: int, split: ClipSplit) -> None:
    for clip in plan_frames(frames, infer_frames, split).clips:
        assert clip.size % 4 == 0
        assert 4 <= clip.size <= infer_frames
        assert clip.frames <= clip.size - clip.lead_in


@given(frame_counts, clip_sizes)
def test_even_clips_are_the_fewest_and_waste_less_than_a_latent_frame(frames: int, infer_frames: int) -> None:
    planned = plan_frames(frames, infer_frames)
    assert len(planned.clips) == math.ceil((frames + LEAD_IN_FRAMES) / infer_frames)
    assert 0 <= sum(sizes(planned)) - LEAD_IN_FRAMES - frames < 4
    assert max(sizes(planned)) - min(sizes(planned)) <= 4


def test_all_totals_from_1_to_20000() -> None:
    for frames in range(1, 20_001):
        assert sum(lengths(plan_frames(frames))) == frames


@pytest.mark.parametrize(
    ("frames", "sampled", "yielded"),
    [
        (161, [56, 56, 52], [53, 56, 52]),  # the example of the design
        (77, [80], [77]),
        (78, [44, 40], [41, 37]),
        (157, [80, 80], [77, 80]),
        (1, [4], [1]),
    ],
)
def test_even_split(frames: int, sampled: list[int], yielded: list[int]) -> None:
    planned = plan_frames(frames)
    assert sizes(planned) == sampled
    assert lengths(planned) == yielded


def test_full_split_is_the_references() -> None:
    planned = plan_frames(161, split=ClipSplit.FULL)
    assert sizes(planned) == [80, 80, 80]
    assert lengths(planned) == [77, 80, 4]


def test_clip_k_has_seed_plus_k() -> None:
    assert [clip.seed for clip in plan_frames(300, seed=41).clips] == [41, 42, 43, 44]


@pytest.mark.parametrize(
    ("options", "seconds", "frames"),
    [
        ({}, HOUR, 77),
        ({}, 2.0, 32),  # less sound, less video
        ({}, 0.01, 1),
        ({"audio_start": 59.0}, 60.0, 16),
        ({"frames": 305}, 2.0, 305),  # asked for: silence follows
        ({"frames": 81, "audio_duration": 5.0, "audio_start": 30.0}, 200.0, 81),
        ({"audio_duration": 5.0}, 200.0, 80),
        ({"audio_duration": 5.01}, 200.0, 81),
        ({"full": True}, 10.0, 160),
        ({"full": True, "audio_start": 9.5}, 10.0, 8),
        ({"full": True, "num_clip": 2}, 60.0, 157),
        ({"full": True, "num_clip": 2}, 3.0, 48),
        ({"frames": 500, "num_clip": 1, "infer_frames": 48}, 60.0, 45),
    ],
)
def test_number_of_frames(options: dict[str, object], seconds: float, frames: int) -> None:
    assert plan(Request(audio="a.wav", **options), seconds).frames == frames  # type: ignore[arg-type]


@given(st.floats(0.01, 7200), st.integers(1, 30))
def test_num_clip_is_never_exceeded(seconds: float, clips: int) -> None:
    assert len(plan(Request(audio="a.wav", full=True, num_clip=clips), seconds).clips) <= clips


@given(st.floats(0.01, 7200))
def test_full_uses_all_the_sound_and_less_than_a_frame_more(seconds: float) -> None:
    planned = plan(Request(audio="a.wav", full=True), seconds)
    assert planned.seconds >= seconds - 1e-5
    assert planned.seconds - seconds < 1 / 16


def test_the_window_is_the_sound_there_is() -> None:
    planned = plan(Request(audio="a.wav", frames=160, audio_start=6.0), 10.0)
    assert planned.audio_seconds == pytest.approx(4.0)
    assert planned.silence_seconds == pytest.approx(6.0)


def test_the_window_is_at_most_the_duration_asked_for() -> None:
    planned = plan(Request(audio="a.wav", frames=161, audio_duration=10.0), 60.0)
    assert planned.audio_seconds == 10.0
    assert planned.silence_seconds == pytest.approx(1 / 16)


@pytest.mark.parametrize("start", [10.0, 11.0, 1e9])
def test_a_start_at_or_after_the_end_names_the_length(start: float) -> None:
    with pytest.raises(InputError, match=r"10\.000 s"):
        plan(Request(audio="a.wav", audio_start=start), 10.0)


def test_tokens_are_those_of_the_reference() -> None:
    """Specification §17: 480×832, 80 frames: 31200 / 1560 / 2314, and 1024×704: 56320 / 2816 / 4224."""
    later = plan_frames(157, width=480, height=832, ref_image="a.png")
    tokens = count_tokens(later, later.clips[1])
    assert (tokens.noise, tokens.reference, tokens.motion) == (31200, 1560, 2314)
    first = plan_frames(77, width=1024, height=704)
    tokens = count_tokens(first, first.clips[0])
    assert (tokens.noise, tokens.reference, tokens.motion) == (56320, 0, 0)
    wide = plan_frames(157, width=1024, height=704)
    assert count_tokens(wide, wide.clips[1]).motion == 4224
