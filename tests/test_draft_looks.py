"""How drafts look: songs that differ at first sight, sections that differ from each other, and no muddy colours."""

import dataclasses
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from benchmarks.songs import synthesize
from numpy.typing import NDArray

from media_files import click_train, write_sound
from soundreel import planning
from soundreel.analysis import Role, SoundFeatures
from soundreel.analysis.features import features_of
from soundreel.analysis.spectrum import SAMPLE_RATE
from soundreel.engines.draft import DraftEngine
from soundreel.engines.draft.abstract import PatternRenderer, plain_thread_texture
from soundreel.engines.draft.character import Character, character_of
from soundreel.engines.draft.forms import Form
from soundreel.engines.draft.look import Material, Style
from soundreel.engines.draft.motion import Motion, motion_from_features
from soundreel.engines.draft.palette import Scheme, choose_palette
from soundreel.engines.draft.scenes import Scene, needs_song, scenes_of
from soundreel.media.audio import probe_sound
from soundreel.media.oklch import from_srgb
from soundreel.render.fingerprint import asked, pixel_fingerprints
from soundreel.request import Request
from soundreel.types import Plan
from starts import starts_from

Pixels = NDArray[np.uint8]
RATE = 22_050
FIRST = 8
"""Frame of the motion that short drawings begin at."""

SONG = Character(tempo=0.5, energy=0.6, brightness=0.5, key=0.5 + 0.2j, number=1)
VERSE, CHORUS, BRIDGE = (
    Scene(role=role, part=part, strength=0.6, has_others=True)
    for part, role in enumerate((Role.VERSE, Role.CHORUS, Role.BRIDGE))
)


def characters() -> Iterator[Character]:
    """Songs in all keys, soft and loud, dark and bright."""
    songs = product(range(12), (0.0, 1.0), (0.0, 1.0), range(3))
    for number, (fifth, energy, brightness, _) in enumerate(songs):
        key = 0.5 * np.exp(2j * np.pi * fifth / 12)
        yield Character(tempo=energy, energy=energy, brightness=brightness, key=key, number=number)


def plan_of(request: Request) -> Plan:
    return planning.plan(request, probe_sound(request.audio).seconds)


def render(request: Request, start: int = 0) -> Pixels:
    """The frames from a clip on."""
    engine, plan = DraftEngine(), plan_of(request)
    rendered = engine.render(engine.prepare(plan), starts_from(plan, Path(), start), lambda progress: None)
    return np.concatenate([clip.frames for clip in rendered])


def first_frames(path: Path) -> Pixels:
    return render(Request(audio=path, width=96, height=160, frames=4))


def oklch(rgb: Pixels) -> NDArray[np.float64]:
    """Lightness, chroma and hue in degrees, [3, n]."""
    lightness, chroma, hue = from_srgb(rgb.reshape(-1, 3)).T
    return np.stack([lightness, chroma, np.rad2deg(hue) % 360])


# Songs


def test_the_content_of_a_file_composes(tmp_path: Path) -> None:
    """Two sounds that nobody could tell apart: the same seed draws them otherwise."""
    samples = click_train(2, RATE)
    one = write_sound(tmp_path / "one.wav", samples, RATE)
    copy = write_sound(tmp_path / "copy.wav", samples, RATE)
    samples[-1] += 1 / 128
    other = write_sound(tmp_path / "other.wav", samples, RATE)
    first, again, second = (first_frames(path) for path in (one, copy, other))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - second).mean() > 15


def test_the_demo_tune_and_a_voice_differ_at_first_sight(tune: Path, media: Path) -> None:
    """With seed 0 both had the same composition, one of them in olive."""
    first, second = (first_frames(path) for path in (tune, media / "sing.MP3"))
    assert np.abs(first.astype(int) - second).mean() > 30


def test_songs_take_all_materials_and_forms() -> None:
    styles = [Style.of_song(character, seed=0) for character in characters()]
    assert {style.material for style in styles} == set(Material)
    assert {style.look(Scene()).form for style in styles} == set(Form)


def test_the_character_tells_songs_apart(features: SoundFeatures) -> None:
    quiet = dataclasses.replace(features, loudness=0.3 * features.loudness, tempo_bpm=70.0)
    loud, calm = (character_of(each, 0j, 0) for each in (features, quiet))
    assert loud.energy > calm.energy
    assert loud.tempo > calm.tempo
    silence = character_of(dataclasses.replace(features, loudness=np.zeros(80, np.float32)), 0j, 0)
    assert 0 <= silence.energy < loud.energy


EVERY_LOOK = [(Material.SILK, form) for form in Form] + [(material, Form.PLAIN) for material in Material][1:]


@pytest.mark.parametrize(("material", "form"), EVERY_LOOK)
def test_hits_are_seen_in_every_material_and_form(
    material: Material, form: Form, motion: Motion, drawn: Callable[[Style, Scene], Pixels]
) -> None:
    style = dataclasses.replace(Style.of_song(SONG, seed=0), material=material, alone=form)
    change = np.abs(np.diff(drawn(style, Scene()).astype(int), axis=0)).mean(axis=(1, 2, 3))
    hits = [frame - FIRST - 1 for frame in motion.hit_frames if FIRST < frame < FIRST + 23]
    assert len(hits) == 3
    assert all(change[hit] > change[hit - 1] and change[hit] > change[hit + 1] for hit in hits)


# Colours


def test_no_colours_that_a_song_chooses_are_muddy() -> None:
    """Dark tones are never brown or olive, and what is neither dark nor pale is never grey."""
    for character, mixed in product(characters(), (True, False)):
        scheme = Scheme.of_song(character, np.random.default_rng(character.number), are_mixed=mixed)
        for scene in (Scene(), VERSE, CHORUS, BRIDGE):
            lightness, chroma, hue = oklch(choose_palette(scheme, scene).ramps(0.0))
            is_brown_or_olive = (hue > 60) & (hue < 140) & (lightness > 0.2) & (lightness < 0.6) & (chroma > 0.04)
            is_grey = (chroma < 0.05) & (lightness > 0.4) & (lightness < 0.85)
            assert not is_brown_or_olive.any(), scheme
            assert not is_grey.any(), scheme


def test_ramps_grow_lighter() -> None:
    for character in characters():
        scheme = Scheme.of_song(character, np.random.default_rng(0), are_mixed=True)
        for ramp in choose_palette(scheme, CHORUS).ramps(0.0)[:, ::16]:
            assert (np.diff(oklch(ramp)[0]) > 0).all()


def test_harmony_chooses_the_hue_where_no_word_does() -> None:
    first, second = (
        Scheme.of_song(dataclasses.replace(SONG, key=key), np.random.default_rng(0), are_mixed=True)
        for key in (0.4, -0.4)
    )
    assert abs(first.hue - second.hue) == pytest.approx(np.pi)


# Sections


@pytest.fixture(scope="module")
def features() -> SoundFeatures:
    """Five seconds with a hit every half second."""
    return features_of([click_train(5, SAMPLE_RATE)[:, 0]], seconds=5.0, frames=80)


@pytest.fixture(scope="module")
def motion(features: SoundFeatures) -> Motion:
    return motion_from_features(features)


@pytest.fixture
def drawn(motion: Motion) -> Callable[[Style, Scene], Pixels]:
    """Frames of a shot."""

    def draw(style: Style, scene: Scene) -> Pixels:
        rng = np.random.default_rng(0)
        renderer = PatternRenderer(64, 96, motion=motion, look=style.look(scene), rng=rng, threads=plain_thread_texture)
        frames = np.empty((24, 96, 64, 3), np.uint8)
        for index, frame in enumerate(frames):
            renderer.draw(FIRST + index, frame)
        return frames

    return draw


def test_a_chorus_looks_bigger_than_its_verse(drawn: Callable[[Style, Scene], Pixels]) -> None:
    """Larger, brighter, denser and quicker in every song, and so are the pictures of eight songs together."""
    livelier, lighter = [], []
    for number in range(8):
        style = Style.of_song(dataclasses.replace(SONG, number=number), seed=0)
        verse, chorus = (style.movement(scene) for scene in (weaker(VERSE), stronger(CHORUS)))
        assert all(getattr(chorus, name) > getattr(verse, name) for name in vars(verse))
        before, after = drawn(style, weaker(VERSE)), drawn(style, stronger(CHORUS))
        livelier.append(changes(after) / changes(before))
        lighter.append(oklch(after)[0].mean() - oklch(before)[0].mean())
    assert min(livelier) > 1
    assert np.mean(livelier) > 1.2
    assert np.mean(lighter) > 0.02


def weaker(scene: Scene) -> Scene:
    return dataclasses.replace(scene, strength=0.4)


def stronger(scene: Scene) -> Scene:
    return dataclasses.replace(scene, strength=0.9)


def changes(frames: Pixels) -> float:
    return float(np.abs(np.diff(frames.astype(int), axis=0)).mean())


@pytest.mark.parametrize("number", range(8))
def test_parts_of_a_song_have_colours_of_their_own(number: int) -> None:
    style = Style.of_song(dataclasses.replace(SONG, number=number), seed=0)
    verse, chorus, bridge = (style.look(scene).palette.ramps(0.0).astype(int) for scene in (VERSE, CHORUS, BRIDGE))
    assert np.abs(verse - chorus).mean() > 12
    assert np.abs(verse - bridge).mean() > 12
    assert style.look(VERSE).material is style.look(CHORUS).material


def test_words_move_the_picture() -> None:
    style = Style.of_song(SONG, seed=0)
    usual, calm, wild = (style.movement(Scene(prompt=words)) for words in ("a room", "a calm room", "a wild room"))
    assert calm.speed < usual.speed < wild.speed
    assert calm.punch < usual.punch < wild.punch


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Request:
    """A song of 64 s with a cut between its sections: intro, verse, chorus, verse, chorus, outro."""
    truth, sound = synthesize("6/8", 22, 75.0)
    assert [section["role"] for section in truth["sections"]][1:5] == ["verse", "chorus", "verse", "chorus"]
    path = write_sound(tmp_path_factory.mktemp("songs") / "song.wav", sound[:, np.newaxis], SAMPLE_RATE)
    cuts = tuple(section["start"] for section in truth["sections"][1:])
    return Request(audio=path, width=32, height=48, full=True, cuts=cuts, infer_frames=64)


def test_shots_look_as_the_sections_of_the_song(song: Request) -> None:
    frames = render(song)
    shots = [frames[shot.start : shot.stop] for shot in plan_of(song).shots]
    hues = [np.histogramdd(shot.reshape(-1, 3), bins=8, range=[(0, 256)] * 3)[0] / shot.size for shot in shots]
    apart = {(k, j): np.abs(hues[k] - hues[j]).sum() for k in range(1, 5) for j in range(k)}
    assert apart[3, 1] < min(apart[2, 1], apart[3, 2])  # two verses, against a verse and a chorus
    assert apart[4, 2] < min(apart[2, 1], apart[4, 3])
    assert changes(shots[2]) > changes(shots[1])


def test_a_song_s_shots_can_be_drawn_alone(song: Request) -> None:
    last = plan_of(song).shots[-1].clips[-1]
    np.testing.assert_array_equal(render(song, last.index), render(song)[last.start :])


def test_a_shot_that_continues_another_goes_on_with_its_composition(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "clicks.wav", click_train(2.0, RATE), RATE)

    def drawn(**second: object) -> Pixels:
        shots = [
            {"name": "a", "section": "verse", "seed": 3},
            {"name": "b", "section": "verse", "start": 1.0, **second},
        ]
        return render(Request(audio=path, width=32, height=48, full=True, infer_frames=8, seed=0, shots=shots))

    goes_on, anew = drawn(cut="continue"), drawn()
    np.testing.assert_array_equal(goes_on, drawn(seed=3))
    np.testing.assert_array_equal(goes_on[:16], anew[:16])
    assert np.abs(goes_on[16:].astype(int) - anew[16:]).mean() > 5
    np.testing.assert_array_equal(drawn(cut="continue", seed=9), drawn(seed=9))


def test_a_clip_is_drawn_anew_where_its_shot_ends_elsewhere(song: Request) -> None:
    """How strong a shot looks is measured over all of it."""
    plans = [plan_of(song.replace(cuts=cuts)) for cuts in ((4.0, 20.0), (4.0, 24.0))]
    first, second = (pixel_fingerprints(plan, asked(plan, "draft", {}), {}, are_chained=False) for plan in plans)
    assert first[0] == second[0]
    assert first[2] != second[2]


def storyboard(sections: list[str], path: Path) -> Plan:
    shots = [{"start": 0.5 * k, "name": f"s{k}", "section": section} for k, section in enumerate(sections)]
    return planning.plan(Request(audio=path, full=True, shots=shots), 0.5 * len(sections))


def test_a_storyboard_s_sections_are_shown(features: SoundFeatures, tmp_path: Path) -> None:
    names = ["Intro", "verse-1", "Refrain", "verse 2", "middle eight", "chorus-2", "my part"]
    plan = storyboard(names, tmp_path / "a.wav")
    assert not needs_song(plan)
    scenes = scenes_of(plan, features, None)
    assert [scene.role.value for scene in scenes] == ["intro", "verse", "chorus", "verse", "bridge", "chorus", "part"]
    assert scenes[1].part == scenes[3].part != scenes[4].part
    assert scenes[2].strength > scenes[1].strength
    assert needs_song(storyboard(["verse", ""], tmp_path / "a.wav"))


def test_a_shot_s_scene_depends_on_no_other(features: SoundFeatures, tmp_path: Path) -> None:
    one, other = (
        scenes_of(storyboard(names, tmp_path / "a.wav"), features, None)
        for names in (["verse", "chorus", "outro"], ["solo", "chorus", "verse"])
    )
    assert one[1] == other[1]
    assert one[0] != other[0]
