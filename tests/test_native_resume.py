"""The native engine's clips are chained: carries and negatives make an interrupted chain go on as if unbroken."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import torch

from command import files_below
from native_renders import CHAIN, native_request
from soundreel.engines.native import memory_modes
from soundreel.engines.native.vae import Vae
from soundreel.errors import Cancelled
from soundreel.media.video import read_frames
from soundreel.pipeline import generate
from soundreel.request import WorkOptions
from soundreel.types import Progress, Result, Stage
from weight_files import needs_golden

pytestmark = needs_golden


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


Render = Callable[..., tuple[Result, set[int]]]


@pytest.fixture
def render(tmp_path: Path) -> Render:
    return rendering(tmp_path)


def rendering(folder: Path) -> Render:
    """Renders three clips of 5 + 8 + 4 frames, or as `fields` say; returns which of them were drawn."""

    def run(stop_in: int | None = None, *, fields: Mapping[str, Any] = {}, **work: Any) -> tuple[Result, set[int]]:
        drawn = set()

        def listen(progress: Progress) -> None:
            if progress.stage is Stage.RENDER:
                drawn.add(progress.clip)
                if progress.clip == stop_in:
                    raise Cancelled("enough")

        three = CHAIN | {"width": 32, "height": 32, "frames": 17}
        request = native_request(**three | {"seed": 0, "output": folder / "a.mp4"} | fields)
        return generate(request, listen, work=WorkOptions(**work)), drawn

    return run


def frames(folder: Path, name: str = "a.mp4") -> list[bytes]:
    return [frame.tobytes() for frame in read_frames(folder / name)]


def frames_of(result: Result) -> list[bytes]:
    return [frame.tobytes() for frame in read_frames(result.path)]


def stored(folder: Path) -> list[bytes]:
    """What clips were printed from and hand on."""
    return [path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an undisturbed render leaves that keeps its clips."""
    folder = tmp_path_factory.mktemp("whole")
    rendering(folder)(keep_work=True)
    return folder


@pytest.fixture(scope="module")
def unbroken(whole: Path) -> tuple[list[bytes], list[bytes]]:
    """Frames of an undisturbed render, and what it stored of its clips."""
    return frames(whole), stored(whole)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a render leaves that is cancelled in its third clip."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.raises(Cancelled):
        rendering(folder)(stop_in=3)
    return folder


def copy(folder: Path, to: Path) -> None:
    shutil.copytree(folder, to, dirs_exist_ok=True)


def test_an_interrupted_chain_goes_on_as_if_unbroken(
    render: Render, tmp_path: Path, interrupted: Path, unbroken: tuple[list[bytes], list[bytes]]
) -> None:
    copy(interrupted, tmp_path)
    assert render(keep_work=True)[1] == {3}
    assert (frames(tmp_path), stored(tmp_path)) == unbroken


@pytest.mark.parametrize(
    ("damaged", "drawn"), [("carry_00002_*.safetensors", {3}), ("clip_00002_*.latents.safetensors", {2, 3})]
)
def test_a_damaged_carry_costs_nothing_and_a_damaged_negative_one_clip(
    render: Render,
    tmp_path: Path,
    interrupted: Path,
    unbroken: tuple[list[bytes], list[bytes]],
    damaged: str,
    drawn: set[int],
) -> None:
    copy(interrupted, tmp_path)
    for path in tmp_path.rglob(damaged):  # a carry is not kept where the clip after it was sampled meanwhile
        path.write_bytes(path.read_bytes()[:-1])
    assert render(keep_work=False)[1] == drawn
    assert frames(tmp_path) == unbroken[0]
    assert files_below(tmp_path) == ["a.mp4"]


def test_what_depends_on_a_redrawn_clip_is_drawn_again(
    render: Render, tmp_path: Path, whole: Path, unbroken: tuple[list[bytes], list[bytes]]
) -> None:
    copy(whole, tmp_path)
    result, drawn = render(redo_clip=2)
    assert drawn == {2, 3}
    assert [clip.seed for clip in result.plan.clips] == [0, 3, 2]
    changed = [one != other for one, other in zip(frames_of(result), unbroken[0], strict=True)]
    assert changed == [False] * 5 + [True] * 12


def test_matched_colours_change_the_pictures_and_not_the_chain(
    render: Render, tmp_path: Path, unbroken: tuple[list[bytes], list[bytes]]
) -> None:
    with pytest.raises(Cancelled):
        render(stop_in=3, fields={"color_match": True})
    looks = [clip["look"] for clip in render(fields={"color_match": True})[0].recipe["plan"]["clips"]]
    again = [clip["look"] for clip in rendering(tmp_path / "plain")()[0].recipe["plan"]["clips"]]
    assert looks == again
    assert frames(tmp_path)[:5] == unbroken[0][:5]
    assert frames(tmp_path)[5:] != unbroken[0][5:]


CUT: dict[str, Any] = {"cuts": (9 / 16,), "guide_scale": 1.0}
"""Two shots of two clips: 5 + 4 and 5 + 3 frames."""


def test_nothing_passes_a_cut(render: Render, tmp_path: Path) -> None:
    """What is drawn anew stays inside its shot, and a render that stops goes on at the cut without a carry."""
    with pytest.raises(Cancelled):
        render(stop_in=3, fields=CUT, keep_work=True)
    assert not list(tmp_path.rglob("carry_00002_*")), "the last clip of a shot hands nothing on"
    assert render(fields=CUT, keep_work=True)[1] == {3, 4}
    before = frames(tmp_path)
    result, drawn = render(fields=CUT, redo_clip=1)
    assert drawn == {1, 2}
    assert [clip.seed for clip in result.plan.clips] == [4, 1, 2, 3]
    changed = [one != other for one, other in zip(frames_of(result), before, strict=True)]
    assert changed == [True] * 9 + [False] * 8


def test_another_memory_mode_goes_on_with_the_same_render(
    render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the VAE's kernels are our own, whose bits do not go by its pieces: these are taken for some."""
    for module in ("device", "prepared"):
        monkeypatch.setattr(f"soundreel.engines.native.{module}.has_own_convolutions", lambda device, dtype: True)
    with pytest.raises(Cancelled):
        render(stop_in=3, fields={"memory": "24gb"})
    (path,) = tmp_path.rglob("plan.json")
    begun = json.loads(path.read_text())["identity"]
    assert (begun["bits"]["vae_step"], begun["bits"]["vae_bands"]) == (None, None)
    bands: list[int] = []
    make, method = Vae.decode, memory_modes._vae_ways

    def decode(vae: Vae, *given: Any, **options: Any) -> Any:
        bands.append(vae.bands)
        return make(vae, *given, **options)

    monkeypatch.setattr(memory_modes, "_vae_ways", lambda asked, kept: method(asked, kept)[1:])  # as under a cap
    monkeypatch.setattr(Vae, "decode", decode)
    result, drawn = render(fields={"memory": "12gb"})
    assert drawn == {3}
    assert set(bands) == {2}
    assert result.recipe["identity"] == begun
