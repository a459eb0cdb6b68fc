"""The draft engine: pictures that follow the sound, drawn from real sound files."""

import gc
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from media_files import click_train, tone, write_sound
from soundreel import planning
from soundreel.analysis import SoundFeatures, analyse
from soundreel.engines.base import Estimate, Prepared
from soundreel.engines.draft import DraftEngine
from soundreel.engines.draft.character import Character
from soundreel.engines.draft.drawing import Drawing, FrameRenderer
from soundreel.engines.draft.motion import motion_from_features
from soundreel.engines.draft.palette import Scheme, choose_palette, read_colours
from soundreel.engines.draft.scenes import Scene
from soundreel.errors import Cancelled, InputError
from soundreel.media.audio import probe_sound
from soundreel.request import Request
from soundreel.types import Plan, Progress, RenderedClip, Report, Stage
from soundreel.units import MODEL_FPS
from starts import starts_from

RATE = 22_050
LOOKS = ("abstract", "image")
SONG = Character(tempo=0.5, energy=0.6, brightness=0.5, key=0.5 + 0.2j, number=1)

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Soft coloured shapes with some detail, 300 × 400."""
    noise = np.random.default_rng(1).integers(0, 256, (20, 15, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("pictures") / "shapes.png"
    Image.fromarray(noise).resize((300, 400), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds at 120 BPM."""
    path = tmp_path_factory.mktemp("sounds") / "clicks.wav"
    return write_sound(path, click_train(10, RATE), RATE)


@pytest.fixture(scope="module")
def silence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sounds") / "silence.wav"
    return write_sound(path, np.zeros((5 * RATE, 1), np.float32), RATE)


@pytest.fixture(params=LOOKS)
def ask(request: pytest.FixtureRequest, picture: Path) -> Callable[..., Request]:
    """Makes requests for one renderer after the other."""

    def make(audio: Path, **options: object) -> Request:
        reference = picture if request.param == "image" else None
        return Request(**{"audio": audio, "ref_image": reference, "width": 96, "height": 160, **options})

    return make


def make_plan(request: Request) -> Plan:
    return planning.plan(request, probe_sound(request.audio).seconds)


def ignore(progress: Progress) -> None:
    pass


def prepare(request: Request) -> Prepared:
    return DraftEngine().prepare(make_plan(request))


def render_clips(request: Request, report: Report = ignore, start: int = 0) -> Iterator[RenderedClip]:
    """The clips from index `start` on."""
    prepared = prepare(request)
    return DraftEngine().render(prepared, starts_from(prepared.plan, Path(), start), report)


def render(request: Request, start: int = 0) -> Pixels:
    """All frames from clip `start` on."""
    return np.concatenate([rendered.frames for rendered in render_clips(request, start=start)])


def estimate(request: Request) -> Estimate:
    return DraftEngine().estimate(prepare(request))


def changes(frames: Pixels) -> NDArray[np.float64]:
    """Mean |frame j − frame j−1|; 0 for the first."""
    steps = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    return np.concatenate([[0.0], steps])


def share_seen(frames: Pixels, times: Sequence[float]) -> float:
    """Share of `times` with a local maximum of change within one frame."""
    energy = np.pad(changes(frames), 1)
    peaks = np.flatnonzero((energy[1:-1] > energy[:-2]) & (energy[1:-1] > energy[2:]))
    return float(np.mean([np.abs(peaks - round(time * MODEL_FPS)).min() <= 1 for time in times]))


# Synchrony


def test_clicks_are_seen_when_they_are_heard(clicks: Path, ask: Callable[..., Request]) -> None:
    frames = render(ask(clicks, full=True))
    assert share_seen(frames, np.arange(0.25, 10, 0.5)) >= 0.95


@pytest.mark.parametrize("every", [1.0, 1 / 3, 0.25, 0.125])
def test_slow_and_fast_clicks_are_seen(every: float, ask: Callable[..., Request], tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "clicks.wav", click_train(8, RATE, every=every), RATE)
    frames = render(ask(sound, full=True))
    assert share_seen(frames, np.arange(0.25, 8 - 0.1, every)) >= 0.95


def test_soft_hits_between_loud_ones_are_seen(ask: Callable[..., Request], tmp_path: Path) -> None:
    samples = click_train(10, RATE)
    for second in range(10):
        samples[second * RATE + RATE // 2 : (second + 1) * RATE] *= 0.05
    frames = render(ask(write_sound(tmp_path / "hits.wav", samples, RATE), full=True))
    assert share_seen(frames, np.arange(0.25, 10, 0.5)) >= 0.95


@pytest.mark.parametrize("level", [0, 128, 255])
def test_clicks_are_seen_on_a_picture_of_one_colour(level: int, clicks: Path, tmp_path: Path) -> None:
    path = tmp_path / "plain.png"
    Image.new("RGB", (60, 80), (level, level, level)).save(path)
    frames = render(Request(audio=clicks, ref_image=path, width=96, height=160, full=True))
    assert share_seen(frames, np.arange(0.25, 10, 0.5)) >= 0.95


def test_the_window_of_the_sound_drives_the_picture(clicks: Path, ask: Callable[..., Request]) -> None:
    frames = render(ask(clicks, audio_start=3.1, frames=80))
    assert share_seen(frames, np.arange(3.25, 8, 0.5) - 3.1) >= 0.95


def test_an_onset_jumps_and_then_eases_out(clicks: Path) -> None:
    motion = motion_from_features(analyse(clicks, start=0.0, seconds=10.0, frames=160))
    after_the_first = np.diff(motion.punch[int(motion.hit_frames[0]) - 1 :][:8])
    assert after_the_first[0] > 0.3
    assert (after_the_first[1:7] < 0).all()
    assert np.abs(after_the_first[1:7]).max() < after_the_first[0] / 2


# Calm


def test_silence_only_drifts(silence: Path, ask: Callable[..., Request]) -> None:
    frames = render(ask(silence, frames=60, width=192, height=320))
    energy = changes(frames)[1:]
    assert 0 < energy.max() < 1.5
    assert energy.max() - energy.min() < 0.35
    assert np.abs(np.diff(frames.astype(np.int16), axis=0)).max() <= 40


def test_silence_after_the_sound_calms_down(ask: Callable[..., Request], tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "short.wav", click_train(2, RATE), RATE)
    energy = changes(render(ask(sound, frames=120)))
    assert energy[100:].max() < energy[:32].max() / 5


# The same request gives the same pixels


def test_any_clip_can_be_rendered_alone(clicks: Path, ask: Callable[..., Request]) -> None:
    request = ask(clicks, frames=50, infer_frames=12)
    plan, whole = make_plan(request), render(request)
    for clip in plan.clips:
        np.testing.assert_array_equal(render(request, clip.index), whole[clip.start :])


def test_the_split_into_clips_leaves_no_trace(clicks: Path, ask: Callable[..., Request]) -> None:
    request = ask(clicks, frames=40)
    np.testing.assert_array_equal(render(request), render(request.replace(infer_frames=4)))


def test_the_number_of_threads_leaves_no_trace(
    clicks: Path, ask: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ask(clicks, frames=24, width=320, height=208)
    several = render(request)
    threads = cv2.getNumThreads()
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    cv2.setNumThreads(1)
    try:
        alone = render(request)
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(alone, several)


def test_seeds_compose_differently(clicks: Path, ask: Callable[..., Request]) -> None:
    first, again, other = (render(ask(clicks, frames=8, seed=seed))[-1] for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 4


# Shots


def test_each_shot_has_one_look_however_many_clips_it_has(clicks: Path, ask: Callable[..., Request]) -> None:
    request = ask(clicks, frames=48, infer_frames=8, seed=7, cuts=(1.0, 2.25))
    plan = make_plan(request)
    assert [(shot.start, shot.stop, len(shot.clips)) for shot in plan.shots] == [(0, 16, 3), (16, 36, 3), (36, 48, 2)]
    np.testing.assert_array_equal(render(request), render(request.replace(infer_frames=80)))


def test_a_cut_is_seen_and_nothing_like_it_inside_a_shot(silence: Path, ask: Callable[..., Request]) -> None:
    energy = changes(render(ask(silence, frames=60, infer_frames=12, cuts=(1.0, 2.5))))
    inside = np.delete(energy, [0, 16, 40])
    assert energy[[16, 40]].min() > 3 * inside.max()


def test_renderers_of_earlier_shots_are_let_go(
    clicks: Path, ask: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds megabytes, and a song may have hundreds of shots."""
    renderers: list[weakref.ref[FrameRenderer]] = []
    open_renderer = Drawing.renderer

    def remember(*arguments: Any) -> FrameRenderer:
        renderer = open_renderer(*arguments)
        renderers.append(weakref.ref(renderer))
        return renderer

    monkeypatch.setattr(Drawing, "renderer", remember)
    alive = []
    for _ in render_clips(ask(clicks, frames=24, cuts=(0.25, 0.5, 0.75, 1.0, 1.25))):
        gc.collect()
        alive.append(sum(renderer() is not None for renderer in renderers))
    assert len(renderers) == 6
    assert max(alive) <= 2


# Shapes


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (1024, 128), (16, 1024)])
def test_any_size_is_drawn(size: tuple[int, int], clicks: Path, ask: Callable[..., Request]) -> None:
    width, height = size
    frames = render(ask(clicks, frames=9, width=width, height=height))
    assert frames.shape == (9, height, width, 3)
    assert frames.std() > 5


def test_a_single_frame_is_a_video(clicks: Path, ask: Callable[..., Request]) -> None:
    assert render(ask(clicks, frames=1)).shape == (1, 160, 96, 3)


def test_clips_come_as_planned(clicks: Path, ask: Callable[..., Request]) -> None:
    request = ask(clicks, frames=30, infer_frames=8)
    plan, rendered = make_plan(request), list(render_clips(request))
    assert [each.clip for each in rendered] == list(plan.clips)
    assert [len(each.frames) for each in rendered] == [clip.frames for clip in plan.clips]
    assert {each.frames.dtype for each in rendered} == {np.dtype(np.uint8)}


# The image renderer


def test_the_edges_of_the_picture_are_never_seen(tmp_path: Path) -> None:
    path = tmp_path / "framed.png"
    framed = np.full((400, 300, 3), 60, np.uint8)
    framed[:3] = framed[-3:] = (0, 0, 100)  # too dark to bloom
    framed[:, :3] = framed[:, -3:] = (0, 0, 100)
    Image.fromarray(framed).save(path)
    loud = np.maximum(tone(6, RATE, hertz=60, amplitude=0.9), click_train(6, RATE))
    sound = write_sound(tmp_path / "loud.wav", loud, RATE)
    for seed in range(3):
        request = Request(audio=sound, ref_image=path, width=192, height=256, seed=seed, full=True)
        frames = render(request).astype(int)
        assert (frames[..., 2] - frames[..., 0]).max() < 10


def test_the_picture_stays_recognisable(clicks: Path, tmp_path: Path) -> None:
    colours = np.random.default_rng(2).integers(0, 256, (4, 3, 3), dtype=np.uint8)
    still = Image.fromarray(colours).resize((96, 128), Image.Resampling.BICUBIC)
    still.save(tmp_path / "still.png")
    asked = Request(audio=clicks, ref_image=tmp_path / "still.png", width=96, height=128, frames=40)
    for frame in render(asked):
        assert np.corrcoef(frame.ravel(), np.asarray(still).ravel())[0, 1] > 0.9


# Colours


@pytest.mark.parametrize(
    ("prompt", "channel"), [("a deep red sky", 0), ("an emerald forest", 1), ("the blue sapphire", 2)]
)
def test_colour_words_paint_the_picture(prompt: str, channel: int, clicks: Path) -> None:
    for seed in range(3):
        request = Request(audio=clicks, prompt=prompt, width=96, height=160, frames=4, seed=seed)
        assert render(request).mean(axis=(0, 1, 2)).argmax() == channel


def test_words_are_found_whatever_their_case_and_order() -> None:
    colours, moods = read_colours("NEON city, pink; Teal and pink again, redder than reddish")
    assert len(colours) == 2
    assert moods[0].chroma > 1


def test_prompts_without_colours_name_none() -> None:
    assert read_colours("rhythmic motion, synchronized movement") == ([], [])


@pytest.mark.parametrize("seed", range(4))
def test_moods_change_the_colours(seed: int) -> None:
    def saturation(prompt: str) -> float:
        scheme = Scheme.of_song(SONG, np.random.default_rng(seed), are_mixed=True)
        ramps = choose_palette(scheme, Scene(prompt=prompt)).ramps(0.0).astype(float)
        return float((ramps.max(axis=-1) - ramps.min(axis=-1)).mean())

    assert saturation("neon dreams") > saturation("dreams") > saturation("muted dreams")
    assert saturation("monochrome dreams") < 3


# Before and while rendering


def test_what_does_not_fit_into_memory_is_refused(clicks: Path) -> None:
    request = Request(audio=clicks, width=16384, height=16384, frames=16_000, infer_frames=16_384)
    with pytest.raises(InputError, match=r"16384x16384 and 16000 frames per clip need about 12,\d+ GB, .* free"):
        prepare(request)


def test_short_videos_need_no_more_than_their_frames(clicks: Path) -> None:
    prepare(Request(audio=clicks, width=1024, height=1024, frames=1, infer_frames=16_384))


def test_a_bad_reference_image_is_found_before_rendering(clicks: Path, tmp_path: Path) -> None:
    path = tmp_path / "missing.png"
    with pytest.raises(InputError, match=r"missing\.png"):
        prepare(Request(audio=clicks, ref_image=path))


def test_progress_is_told_every_few_frames(clicks: Path, ask: Callable[..., Request]) -> None:
    told: list[Progress] = []
    list(render_clips(ask(clicks, frames=60, infer_frames=32), told.append))
    assert told[0].stage is Stage.ANALYSE
    drawn = [progress for progress in told if progress.stage is Stage.RENDER]
    assert all(0 <= after.done - before.done <= 16 for before, after in pairwise(drawn))
    assert (drawn[0].done, drawn[-1].done, drawn[-1].total) == (0, 60, 60)
    assert {(progress.clip, progress.clips) for progress in drawn} == {(1, 2), (2, 2)}


def test_a_render_can_be_cancelled(clicks: Path, ask: Callable[..., Request]) -> None:
    def stop(progress: Progress) -> None:
        if progress.done >= 8:
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        list(render_clips(ask(clicks, frames=80), stop))


def test_an_estimate_grows_with_the_work(clicks: Path, ask: Callable[..., Request]) -> None:
    asked = ask(clicks, frames=160, width=1920, height=1088)
    small, large = estimate(ask(clicks, frames=16)), estimate(asked)
    assert large.seconds > small.seconds > 0
    assert large.memory_bytes > max(clip.frames for clip in make_plan(asked).clips) * 1920 * 1088 * 3


# Real sound


@pytest.mark.parametrize("name", ["sing.MP3", "Five Hundred Miles.MP3", "talk.wav"])
def test_real_onsets_are_seen(name: str, media: Path, ask: Callable[..., Request]) -> None:
    frames = render(ask(media / name, frames=80))
    found: SoundFeatures = analyse(media / name, start=0.0, seconds=5.0, frames=80)
    strong = [time for time in found.onset_times if 0.1 < time < 4.8]
    assert len(strong) >= 5
    assert share_seen(frames, strong) >= 0.9


def test_options_of_the_model_are_said_to_have_no_effect(tmp_path: Path) -> None:
    lora, dance = tmp_path / "turbo.safetensors", tmp_path / "dance.mp4"
    for file in (lora, dance):
        file.write_bytes(b"anything")
    request = Request(audio="a.wav", loras=(f"{lora}:0.5",), pose_video=dance)
    prepared = DraftEngine().prepare(planning.plan(request, 5.0))
    assert prepared.notes == ("--pose-video, --lora have no effect on a draft",)
