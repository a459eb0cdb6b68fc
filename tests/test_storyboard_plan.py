"""The shots of a storyboard become clips that cover the window exactly, each from the frame nearest to its time.

A shot that continues another has clips of its own; nothing that its own clips do not need changes another shot's.
"""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soundreel.errors import InputError
from soundreel.planning import chain_plan, plan
from soundreel.request import Cut, Request, ShotRequest
from soundreel.request.data import from_data
from soundreel.request.fields import to_data
from soundreel.types import Plan
from soundreel.units import FRAMES_PER_LATENT, LEAD_IN_FRAMES, MODEL_FPS

HOUR = 3600.0


def storyboard(shots: list[dict[str, Any]], **fields: Any) -> Request:
    return Request(audio="a.wav", shots=shots, **({"full": True} | fields))


@st.composite
def storyboards(draw: st.DrawFn) -> tuple[Request, list[int]]:
    """A request with 1 to 2,000 shots, and the frames that they begin on."""
    count = draw(st.one_of(st.integers(1, 12), st.sampled_from([200, 2000])))
    rng = draw(st.randoms(use_true_random=False))
    longest = draw(st.sampled_from([1, 2, 7, 90, 400]))
    starts = [0]
    while len(starts) < count:
        starts.append(starts[-1] + rng.randint(1, longest))
    frames = starts[-1] + rng.randint(1, longest)
    begin = draw(st.sampled_from([0.0, 0.01, 12.3]))
    shots = [
        {
            "start": max(0.0, begin + (frame + rng.uniform(-0.45, 0.45)) / MODEL_FPS) if frame else begin,
            "cut": rng.choice(["hard", "continue"]),
            "name": rng.choice(["", f"s{number}"]),
        }
        for number, frame in enumerate(starts)
    ]
    request = Request(
        audio="a.wav",
        shots=shots,
        frames=frames,
        audio_start=begin,
        infer_frames=draw(st.sampled_from([4, 16, 80])),
        clip_split=draw(st.sampled_from(["even", "full"])),
        **draw(st.sampled_from([{}, {"ref_image": "a.png", "start_from_ref": True}])),
    )
    return request, starts


def assert_is_whole(planned: Plan, *, surplus_is_dropped: bool) -> None:
    lead_in = 0 if planned.request.guide.start_from_ref else LEAD_IN_FRAMES
    assert [clip.index for clip in planned.clips] == list(range(len(planned.clips)))
    assert planned.clips[0].start == 0
    assert all(after.start == before.stop for before, after in pairwise(planned.clips))
    assert sum(clip.frames for clip in planned.clips) == planned.frames == planned.request.window.frames
    assert [shot for chain in planned.chains for shot in chain.shots] == list(planned.shots)
    for clip in planned.clips:
        assert clip.size % FRAMES_PER_LATENT == 0
        assert 0 < clip.size <= planned.request.sampling.infer_frames
        assert 1 <= clip.frames <= clip.size - clip.lead_in
        begins = clip is planned.chain_of(clip).clips[0]
        assert (clip.lead_in, planned.continues(clip)) == (lead_in if begins else 0, not begins)
        inside = not (clip.stop == planned.shot_of(clip).stop if surplus_is_dropped else planned.is_last_of_chain(clip))
        if inside:
            assert clip.frames == clip.size - clip.lead_in, "nothing is dropped where the next clip continues"


@given(storyboards())
@settings(max_examples=25, deadline=None)
def test_totals_are_exact_for_any_storyboard(asked: tuple[Request, list[int]]) -> None:
    request, starts = asked
    planned = plan(request, HOUR * 24)
    assert_is_whole(planned, surplus_is_dropped=True)
    assert [shot.start for shot in planned.shots] == starts
    assert [shot.asked for shot in planned.shots] == list(request.shots)
    assert [shot.continues for shot in planned.shots[1:]] == [shot.cut is Cut.CONTINUE for shot in request.shots[1:]]
    assert not planned.shots[0].continues


@given(storyboards())
@settings(max_examples=15, deadline=None)
def test_engines_that_chain_latents_drop_nothing_between_shots(asked: tuple[Request, list[int]]) -> None:
    request, starts = asked
    is_narrow = any(after - before < 8 for before, after in pairwise([*starts, request.window.frames or 0]))
    try:
        planned = plan(request, HOUR * 24, equal_clips=True)
    except InputError:
        if not is_narrow:
            raise
        return
    assert_is_whole(planned, surplus_is_dropped=False)
    assert_is_on_latents(planned, starts)


@pytest.mark.parametrize(("starts_from_ref", "begins"), [(True, 4), (False, 1)])
def test_after_a_shot_of_one_frame_a_continued_one_begins_with_the_first_latent(
    starts_from_ref: bool, begins: int
) -> None:
    """The farthest from its time that a shot can begin: no latent frame is shorter than four frames."""
    shots = [{"start": 0}, {"start": 1 / MODEL_FPS, "cut": "continue"}]
    request = storyboard(shots, ref_image="a.png", start_from_ref=starts_from_ref)
    planned = plan(request, 5.0, equal_clips=True)
    assert planned.shots[1].start == begins
    assert_is_on_latents(planned, [0, 1])


def assert_is_on_latents(planned: Plan, asked: list[int]) -> None:
    """Continued shots begin on the nearest frame where a latent frame ends, all others on the frames `asked`."""
    for shot, frame in zip(planned.shots, asked, strict=True):
        if not shot.continues:
            assert shot.start == frame
            continue
        sampled = frame - planned.chain_of(shot.clips[0]).start + planned.lead_in  # of the chain, before the shot
        nearest = min(sampled % FRAMES_PER_LATENT, -sampled % FRAMES_PER_LATENT)  # 2 at most
        assert abs(shot.start - frame) == (3 if sampled == 1 else nearest)


@given(storyboards())
@settings(max_examples=8, deadline=None)
def test_a_chain_alone_is_the_same_chain(asked: tuple[Request, list[int]]) -> None:
    planned = plan(asked[0], HOUR * 24)
    for chain in planned.chains[:20]:
        alone = chain_plan(planned, chain)
        assert [(clip.size, clip.seed, clip.frames) for clip in alone.clips] == [
            (clip.size, clip.seed, clip.frames) for clip in chain.clips
        ]
        assert [shot.asked for shot in alone.shots] == [shot.asked for shot in chain.shots]
        assert [clip.shot for clip in alone.clips] == [clip.shot - chain.shots[0].index for clip in chain.clips]


def test_each_shot_is_asked_for_with_what_it_has_of_its_own() -> None:
    request = storyboard(
        [{"name": "verse"}, {"start": 2, "prompt": "rain", "ref_image": "b.png"}, {"start": 4, "negative_prompt": "x"}],
        prompt="sun",
        ref_image="a.png",
    )
    planned = plan(request, 6.0)
    asked = [planned.request_of(shot) for shot in planned.shots]
    assert [(one.prompt, one.ref_image, one.negative_prompt) for one in asked] == [
        ("sun", "a.png", None), ("rain", "b.png", None), ("sun", "a.png", "x"),
    ]  # fmt: skip
    assert [shot.name for shot in planned.shots] == ["verse", "shot-2", "shot-3"]


def test_a_part_of_the_sound_shows_its_part_of_the_storyboard() -> None:
    shots = [{"start": 0, "name": "a"}, {"start": 10, "name": "b"}, {"start": 20, "name": "c", "cut": "continue"}]
    planned = plan(storyboard(shots, full=False, audio_start=21.0, frames=32), 40.0)
    assert [(shot.name, shot.start, shot.stop, shot.continues) for shot in planned.shots] == [("c", 0, 32, False)]
    planned = plan(storyboard(shots, full=False, audio_start=9.0, frames=32), 40.0)
    assert [(shot.name, shot.start, shot.stop) for shot in planned.shots] == [("a", 0, 16), ("b", 16, 32)]


def test_num_clip_counts_the_clips_of_shots() -> None:
    shots = [{"start": 0}, {"start": 1, "cut": "continue"}, {"start": 2}]
    for count in (1, 2, 3):
        planned = plan(storyboard(shots, num_clip=count, infer_frames=80), 60.0)
        assert (len(planned.clips), planned.frames) == (count, (16, 32, 32 + 77)[count - 1])


def test_seeds_stay_when_a_shot_before_becomes_longer() -> None:
    def seeds(second: float) -> list[int]:
        shots = [{"start": 0, "name": "a", "seed": 7}, {"start": second, "name": "b"}, {"start": 30, "name": "c"}]
        planned = plan(storyboard(shots), 40.0)
        return [shot.clips[0].seed for shot in planned.shots]

    assert seeds(3.0) == seeds(25.0)
    assert seeds(3.0)[0] == 7


@pytest.mark.parametrize(
    ("shots", "says"),
    [
        ([{"start": 0, "name": "a"}, {"start": 0.02, "name": "b"}], "'a' and shot 'b' begin on the same frame"),
        ([{"start": 0}, {"start": 1.0}, {"start": 1.01}], "shot 2 and shot 3 begin on the same frame"),
        ([{"start": 1.0}, {"start": 2.0}], "the first shot begins at 1 s, the video at 0 s"),
    ],
)
def test_shots_without_a_frame_and_beginnings_without_a_shot_are_wrong(shots: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        plan(storyboard(shots), 60.0)
    assert error.value.field == "shots.start"


@pytest.mark.parametrize(
    ("shots", "fields", "says"),
    [
        ([{"start": 2}, {"start": 1}], {}, "in order"),
        ([{"name": "a"}, {"start": 1, "name": "a"}], {}, "two shots are called 'a'"),
        ([{"name": "7"}], {}, "expected a name that is no number"),
        ([{"start": 0}], {"cuts": [1.0]}, "--cut and the shots of a storyboard"),
        ([{"start": 0, "cut": "soft"}], {}, "cut is 'soft': expected hard or continue"),
        ([{"start": 0, "colour": "red"}], {}, "shots has no field 'colour'"),
    ],
)
def test_what_is_wrong_in_a_shot_is_named(shots: list[dict[str, Any]], fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        storyboard(shots, **fields)


def test_a_request_with_shots_survives_json() -> None:
    request = storyboard([{"start": "1:02.5", "name": "a", "prompt": "x"}, ShotRequest(start=70, cut=Cut.CONTINUE)])
    data = to_data(request)
    data["shots"][0]["of a later version"] = 1
    assert from_data(data).shots == request.shots
