"""Shots and clips cover exactly N frames, and nothing is made that nobody asked for."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soundreel.errors import InputError
from soundreel.planning import chain_plan, count_tokens, plan, shot_bounds
from soundreel.request import ClipSplit, Request
from soundreel.types import Plan
from soundreel.units import LEAD_IN_FRAMES, MAX_CLIPS, MODEL_FPS

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


@pytest.mark.parametrize("totals", [range(1, 2001), pytest.param(range(2001, 20_001), marks=pytest.mark.long)])
def test_all_totals_from_1_to_20000(totals: range) -> None:
    for frames in totals:
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


MOST_FRAMES = 80 * MAX_CLIPS - LEAD_IN_FRAMES


@pytest.mark.parametrize(
    "asked",
    [
        {"frames": MOST_FRAMES + 1},
        {"audio_duration": (MOST_FRAMES + 1) / MODEL_FPS},
        {"full": True},
        {"frames": MOST_FRAMES - 80, "cuts": [1.0, 2.0]},  # no clip goes on across a cut
    ],
)
def test_more_clips_than_a_render_can_have_are_refused_without_planning_one(asked: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"are [\d,]+ clips of 80: expected at most 99,999") as error:
        shot_bounds(Request(audio="a.wav", **asked), 1e9)  # type: ignore[arg-type]
    assert error.value.field == "window.frames"


def test_as_many_clips_as_a_render_can_have() -> None:
    assert shot_bounds(Request(audio="a.wav", frames=MOST_FRAMES), HOUR) == [0, MOST_FRAMES]
    planned = plan_frames(4 * MAX_CLIPS - LEAD_IN_FRAMES, infer_frames=4)
    assert len(planned.clips) == MAX_CLIPS
    with pytest.raises(InputError, match="are 100,000 clips of 4"):
        plan_frames(4 * MAX_CLIPS - LEAD_IN_FRAMES + 1, infer_frames=4)


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


# shots


@st.composite
def cut_requests(draw: st.DrawFn) -> tuple[Request, list[int]]:
    """A request with up to 500 cuts, and the frames that they fall on."""
    chance = draw(st.randoms(use_true_random=True))  # hypothesis itself prefers small numbers
    count = chance.randint(1, draw(st.sampled_from([3, 40, 500])))
    frames = chance.randint(count + 1, draw(st.sampled_from([600, 20_000])))
    at = sorted(chance.sample(range(1, frames), count))
    start = draw(st.sampled_from([0.0, 1.25, 33.37]))
    cuts = [start + (frame + chance.uniform(-0.49, 0.49)) / MODEL_FPS for frame in at]  # the nearest frame counts
    chance.shuffle(cuts)
    request = Request(
        audio="a.wav",
        ref_image="a.png",
        frames=frames,
        audio_start=start,
        cuts=cuts,
        start_from_ref=draw(st.booleans()),
        clip_split=draw(st.sampled_from(ClipSplit)),
        infer_frames=draw(clip_sizes),
        num_clip=draw(st.none() | st.integers(1, 600)),
        seed=draw(st.integers(0, 99)),
    )
    return request, at


def assert_is_whole(planned: Plan, *, equal_clips: bool) -> None:
    """Shots cover 0 … N once, clips cover their shot once, and what is sampled is enough and no more than allowed."""
    request = planned.request
    assert [shot.index for shot in planned.shots] == list(range(len(planned.shots)))
    assert planned.shots[0].start == 0
    assert all(after.start == before.stop for before, after in pairwise(planned.shots))
    assert planned.frames == planned.shots[-1].stop == sum(clip.frames for clip in planned.clips)
    assert [clip.index for clip in planned.clips] == list(range(len(planned.clips)))
    assert [clip.seed for clip in planned.clips] == [request.seed + k for k in range(len(planned.clips))]
    lead_in = 0 if request.guide.start_from_ref else LEAD_IN_FRAMES
    for shot in planned.shots:
        assert shot.frames == sum(clip.frames for clip in shot.clips)
        assert [clip.lead_in for clip in shot.clips] == [lead_in, *[0] * (len(shot.clips) - 1)]
        assert [planned.continues(clip) for clip in shot.clips] == [False, *[True] * (len(shot.clips) - 1)]
        assert [planned.is_last_of_chain(clip) for clip in shot.clips] == [*[False] * (len(shot.clips) - 1), True]
        for before, clip in pairwise([None, *shot.clips]):
            assert clip is not None
            assert (clip.shot, clip.start) == (shot.index, shot.start if before is None else before.stop)
            assert clip.size % 4 == 0
            assert 4 <= clip.size <= request.sampling.infer_frames
            assert clip.frames >= 1
            assert clip.frames + clip.lead_in <= clip.size
        is_full = request.sampling.clip_split is ClipSplit.FULL or (equal_clips and len(shot.clips) > 1)
        assert not is_full or {clip.size for clip in shot.clips} == {request.sampling.infer_frames}
        assert len(shot.clips) == math.ceil((shot.frames + lead_in) / request.sampling.infer_frames)


@settings(max_examples=200, deadline=None)
@given(cut_requests(), st.booleans())
def test_any_cuts_give_whole_shots_and_exact_totals(asked: tuple[Request, list[int]], equal_clips: bool) -> None:
    request, at = asked
    planned = plan(request, HOUR, equal_clips=equal_clips)
    assert_is_whole(planned, equal_clips=equal_clips)
    starts = [shot.start for shot in planned.shots]
    assert starts == [0, *at][: len(starts)]
    limit = request.window.num_clip
    if limit is None:
        assert planned.frames == request.window.frames
        assert starts == [0, *at]
    else:
        assert len(planned.clips) <= limit
        assert planned.frames <= (request.window.frames or 0)
        is_cut_short = planned.frames < (request.window.frames or 0)
        assert len(planned.clips) == limit or not is_cut_short, "no clip less than there may be"


@given(cut_requests(), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_shot_alone_is_the_same_shot(asked: tuple[Request, list[int]], equal_clips: bool) -> None:
    planned = plan(asked[0], HOUR, equal_clips=equal_clips)
    for shot in planned.chains:
        alone = chain_plan(planned, shot)
        assert [clip.size for clip in alone.clips] == [clip.size for clip in shot.clips]
        assert [clip.seed for clip in alone.clips] == [clip.seed for clip in shot.clips]
        begin = planned.request.window.start + shot.start / MODEL_FPS
        assert (alone.frames, alone.request.window.start) == (shot.frames, pytest.approx(begin))
        assert alone.audio_seconds == pytest.approx(shot.frames / MODEL_FPS)


def test_500_cuts_in_an_hour() -> None:
    cuts = [7.0 * k for k in range(1, 501)]
    planned = plan(Request(audio="a.wav", full=True, cuts=cuts), HOUR)
    assert_is_whole(planned, equal_clips=False)
    assert (len(planned.shots), planned.frames) == (501, 57_600)
    assert [shot.start for shot in planned.shots[1:]] == [112 * k for k in range(1, 501)]


@pytest.mark.parametrize("cut", [0.01, 5.0, 5.1, 1000.0])
def test_a_cut_outside_the_video_is_wrong(cut: float) -> None:
    with pytest.raises(InputError, match=f"--cut is {cut:g} s: .* which shows 0 to 5 s") as error:
        plan(Request(audio="a.wav", frames=80, cuts=[cut]), HOUR)
    assert error.value.field == "cuts"


def test_cuts_are_on_the_sound_s_time_line() -> None:
    request = Request(audio="a.wav", frames=80, audio_start=60.0, cuts=["1:02.5"])
    assert [shot.start for shot in plan(request, HOUR).shots] == [0, 40]
    with pytest.raises(InputError, match="which shows 60 to 65 s") as error:
        plan(request.replace(cuts=[2.5]), HOUR)
    assert error.value.field == "cuts"


def test_two_cuts_on_one_frame_are_wrong() -> None:
    with pytest.raises(InputError, match=r"--cut 2\.51 s falls on the same frame as the cut before it") as error:
        plan(Request(audio="a.wav", frames=80, cuts=[2.51, 1.0, 2.5]), HOUR)
    assert error.value.field == "cuts"


def test_a_clip_s_seed_may_be_its_own() -> None:
    planned = plan(Request(audio="a.wav", frames=80, infer_frames=40, cuts=[2.5], seed=7, clip_seeds=[1, 2]), HOUR)
    assert [clip.seed for clip in planned.clips] == [1, 2, 9, 10]
