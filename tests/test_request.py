"""A request that cannot be right is refused with the value, before anything is opened."""

import math

import pytest

from soundreel.errors import InputError
from soundreel.request import Request


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
    with pytest.raises(InputError, match=says):
        Request(audio="a.wav", **{option: value})  # type: ignore[arg-type]


def test_defaults_are_valid() -> None:
    assert Request(audio="a.wav").window.frames is None


def test_input_errors_are_value_errors() -> None:
    with pytest.raises(ValueError, match="crf"):
        Request(audio="a.wav", crf=-1)
