"""What the model hears: the columns of the driving sound, computed once for each drive over the whole window."""

from pathlib import Path
from typing import Any, Final

import pytest
import torch
from torch import Tensor

from media_files import tone, write_sound
from native_renders import native_plan
from native_renders import prepared as decided
from soundreel.engines.native import scene as native_scene
from soundreel.engines.native.prepared import find_files
from soundreel.engines.native.scene import encode_sound, prepare_scene
from soundreel.types import Plan
from voices import per_shot

FIELDS: Final[dict[str, Any]] = {"width": 64, "height": 64, "frames": 40, "infer_frames": 16, "steps": 1}

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("golden")


@pytest.fixture(scope="module")
def mix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sound(tmp_path_factory.mktemp("sound") / "mix.wav", tone(4.0, 16_000, hertz=300), 16_000)


@pytest.fixture(scope="module")
def stem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sound(tmp_path_factory.mktemp("sound") / "stem.wav", tone(4.0, 16_000, hertz=700), 16_000)


def columns(planned: Plan) -> Tensor:
    return encode_sound(planned, find_files(planned.request), CPU)[..., :]


def test_it_hears_the_driving_sound(mix: Path, stem: Path) -> None:
    driven = columns(native_plan(audio=mix, drive=stem, **FIELDS))
    assert torch.equal(driven, columns(native_plan(audio=stem, **FIELDS)))
    assert not torch.equal(driven, columns(native_plan(audio=mix, **FIELDS)))


def test_each_drive_is_encoded_once_and_changes_no_other(
    mix: Path, stem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = native_plan(audio=mix, cuts=(1.0, 2.0), **FIELDS)
    of_mix, of_stem = columns(planned), columns(native_plan(audio=stem, cuts=(1.0, 2.0), **FIELDS))
    encode, encoded = native_scene.encode_sound, []
    monkeypatch.setattr(native_scene, "encode_sound", lambda *given: encoded.append(given[-1]) or encode(*given))
    per_shot(monkeypatch, mix, stem, mix)
    scene = prepare_scene(decided(planned))
    assert encoded == [mix, stem]
    for heard, expected in zip(scene.sounds, (of_mix, of_stem, of_mix), strict=True):
        assert torch.equal(heard[..., :], expected)


def test_another_cut_leaves_what_every_frame_hears(mix: Path) -> None:
    one, other = (native_plan(audio=mix, cuts=cuts, **FIELDS) for cuts in ((1.0, 2.0), (1.0, 1.5)))
    count = one.lead_in + one.frames
    assert torch.equal(columns(one)[..., :count], columns(other)[..., :count])
