"""A request that cannot be right is refused with the value and the field, before anything is opened.

What is right may be written as text, from Python and from JSON alike.
"""

import dataclasses
import json
import math
import re
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import pytest

from soundreel.errors import InputError
from soundreel.planning import plan
from soundreel.request import (
    FLAT_NAMES,
    Attention,
    AvAlign,
    ClipSplit,
    Compute,
    EngineName,
    Guide,
    Interpolation,
    Memory,
    Output,
    Parallel,
    Precision,
    RefFit,
    Request,
    Sampling,
    Solver,
    VaePrecision,
    Window,
    WorkOptions,
    memory_bytes,
)
from soundreel.request.data import from_data
from soundreel.request.fields import fields_of


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("frames", 0, "frames is 0"),
        ("frames", -5, "frames is -5"),
        ("frames", 7.5, "whole number"),
        ("audio_start", -1.0, "audio_start is -1"),
        ("audio_start", math.nan, "finite"),
        ("audio_start", math.inf, "finite"),
        ("audio_duration", 0.0, "more than 0"),
        ("audio_duration", -3.0, "more than 0"),
        ("audio_duration", math.nan, "finite"),
        ("num_clip", 0, "num_clip is 0"),
        ("infer_frames", 30, "multiple of 4"),
        ("infer_frames", 0, "at least 4"),
        ("width", 100, "nearest: 96 or 112"),
        ("width", 0, "nearest: 16"),
        ("height", -16, "nearest: 16"),
        ("height", 100_000, "16384"),
        ("width", 480.0, "whole number"),
        ("steps", 0, "steps is 0"),
        ("guide_scale", math.nan, "finite"),
        ("shift", 0.0, "more than 0"),
        ("seed", -1, "at least 0"),
        ("crf", 52, "at most 51"),
    ],
)
def test_wrong_values_are_named(option: str, value: object, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        Request(audio="a.wav", **{option: value})  # type: ignore[arg-type]
    assert error.value.field == FLAT_NAMES.get(option, option)


def test_defaults_are_valid() -> None:
    assert Request(audio="a.wav").window.frames is None


def test_input_errors_are_value_errors() -> None:
    with pytest.raises(ValueError, match="crf"):
        Request(audio="a.wav", crf=-1)


# what may be written as text, and what may not

ENUMERATIONS: dict[str, StrEnum] = {
    "engine": EngineName.NATIVE,
    "ref_fit": RefFit.REFERENCE,
    "av_align": AvAlign.REFERENCE,
    "solver": Solver.DPMPP,
    "clip_split": ClipSplit.FULL,
    "attention": Attention.SDPA,
    "precision": Precision.BF16,
    "vae_precision": VaePrecision.BF16,
    "memory": Memory.GB16,
    "parallel": Parallel.TOKENS,
    "interpolate": Interpolation.MOTION,
}
"""Another value for every field that is an enumeration."""

FIELDS = {field.leaf: field for field in fields_of(Request)}


def from_python(**given: Any) -> Request:
    return Request(**given)


def from_json(**given: Any) -> Request:
    return from_data(json.loads(json.dumps(given)))


def test_every_enumeration_is_tried_here() -> None:
    declared = {field.leaf for field in fields_of(Request) if isinstance(field.default, StrEnum)}
    assert declared == set(ENUMERATIONS)


@pytest.mark.parametrize("name", ENUMERATIONS)
@pytest.mark.parametrize("make", [from_python, from_json])
def test_an_enumeration_may_be_written_as_text_and_any_other_text_is_refused(
    name: str, make: Callable[..., Request]
) -> None:
    found = FIELDS[name].of(make(audio="a.wav", **{name: str(ENUMERATIONS[name])}))
    assert found == ENUMERATIONS[name]
    assert type(found) is FIELDS[name].hint, "an enumeration, but where other text is understood as well"
    with pytest.raises(InputError, match=f"{name} is 'bogus': expected ") as error:
        make(audio="a.wav", **{name: "bogus"})
    assert error.value.field == FIELDS[name].name


@pytest.mark.parametrize("make", [from_python, from_json])
@pytest.mark.parametrize(("text", "size"), [("20gb", 20 * 10**9), ("11.5GB", 11_500_000_000), (" 16gb", 16 * 10**9)])
def test_memory_may_be_of_any_size(make: Callable[..., Request], text: str, size: int) -> None:
    assert memory_bytes(make(audio="a.wav", memory=text).compute.memory) == size


@pytest.mark.parametrize("text", ["0gb", "-1gb", "20", "20gib", "1e3gb", ""])
def test_memory_of_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=f"memory is {text!r}: expected auto, high, or a size as 24gb") as error:
        Request(audio="a.wav", memory=text)
    assert error.value.field == "compute.memory"


def test_clips_written_as_text_are_the_full_ones() -> None:
    planned = plan(Request(audio="a.wav", frames=161, clip_split="full"), 60.0)
    assert [clip.size for clip in planned.clips] == [80, 80, 80]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("frames", "8", 8),
        ("width", "640", 640),
        ("guide_scale", "3.5", 3.5),
        ("sigmas", "1.0, 0.5", (1.0, 0.5)),
        ("cfg_interval", ["0", "0.5"], (0.0, 0.5)),
        ("clip_seeds", [4, "5"], (4, 5)),
        ("cuts", ["1:02.5", 70], (62.5, 70.0)),
        ("audio_start", "0:01:01", 61.0),
        ("loras", "a.safetensors:0.5", ("a.safetensors:0.5",)),
    ],
)
def test_numbers_and_lists_may_be_written_as_text(name: str, text: object, value: object) -> None:
    field = next(field for field in fields_of(Request) if field.name == FLAT_NAMES.get(name, name))
    found = field.of(Request(audio="a.wav", **{name: text}))
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        ({"frames": "eight"}, "window.frames", "frames is 'eight': expected a whole number"),
        ({"frames": True}, "window.frames", "frames is True: expected a whole number"),
        ({"prompt": 5}, "prompt", "prompt is 5: expected text"),
        ({"prompt": b"red"}, "prompt", "expected text"),
        ({"ref_image": 5}, "ref_image", "expected a path"),
        ({"color_match": "no"}, "output.color_match", "color_match is 'no': expected true or false"),
        ({"cuts": ["soon"]}, "cuts", "cut is 'soon'"),
        ({"cuts": ["1:2:3:4"]}, "cuts", "a time as 1:23.5"),
        ({"cuts": [0.0]}, "cuts", "more than 0"),
        ({"cfg_interval": [0.5]}, "sampling.cfg_interval", "expected 2 values"),
        ({"cfg_interval": [0.9, 0.1]}, "sampling.cfg_interval", "rising"),
        ({"steps": None}, "sampling.steps", "steps is None: expected a whole number"),
        ({"sampling": {"steps": "few"}}, "sampling.steps", "steps is 'few'"),
        ({"sampling": {"stops": 4}}, "sampling.stops", "sampling has no field 'stops'"),
        ({"sampling": 4}, "sampling", "expected fields of Sampling"),
        ({"server": {"urls": ["ftp://here"]}}, "server.urls", "--url is 'ftp://here'"),
        ({"server": {"headers": ["hush"]}}, "server.headers", "a --header is not understood"),
        ({"width": 100}, "width", "nearest: 96 or 112"),
        ({"start_from_ref": True}, "guide.start_from_ref", "--ref-image"),
        ({"output": 5}, "output", "output is 5"),
    ],
    ids=str,
)
def test_an_error_names_its_field(given: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)) as error:
        Request(audio="a.wav", **given)
    assert error.value.field == field


# groups, and the flat names of version 0.1.0


def test_flat_names_are_those_of_the_groups() -> None:
    flat = Request(
        audio="a.wav", audio_start=2, frames=8, steps=4, crf=20, models="m", pose_video="p.mp4", output="x.mp4"
    )
    grouped = Request(
        audio="a.wav",
        window=Window(start=2, frames=8),
        sampling=Sampling(steps=4),
        compute=Compute(models="m"),
        guide=Guide(pose_video="p.mp4"),
        output=Output(crf=20, path="x.mp4"),
    )
    assert flat == grouped


def test_every_field_of_0_1_0_has_a_place() -> None:
    before = (
        "audio ref_image prompt negative_prompt audio_start audio_duration frames full num_clip width height "
        "infer_frames clip_split seed clip_seeds pose_video start_from_ref ref_fit av_align steps guide_scale shift "
        "solver sigmas turbo attention precision vae_precision memory cache cfg_interval engine models loras device "
        "recipe server output output_dir settings crf interpolate interpolate_weights fps color_match preview"
    )
    names = {field.name for field in fields_of(Request)}
    places = [FLAT_NAMES.get(name, name) for name in before.split() if name not in {"server", "output"}]
    assert set(places) <= names
    assert len(set(places)) == len(places)


def test_replace_takes_flat_names_groups_and_an_output() -> None:
    request = Request(audio="a.wav", steps=4, crf=20)
    other = request.replace(guide_scale=1.0, output="x.mp4", window={"frames": 8}, seed="3")
    assert (other.sampling.steps, other.sampling.guide_scale, other.window.frames, other.seed) == (4, 1.0, 8, 3)
    assert (other.output.path, other.output.crf) == ("x.mp4", 20)
    assert dataclasses.replace(request, steps=5) == request.replace(steps=5)


def test_what_is_wrong_in_a_copy_is_refused_as_well() -> None:
    with pytest.raises(InputError, match="steps is 0"):
        Request(audio="a.wav").replace(steps=0)


def test_work_is_begun_anew_or_drawn_again() -> None:
    with pytest.raises(InputError, match="--redo-clip .* --no-resume"):
        WorkOptions(redo_clip=1, resume=False)
