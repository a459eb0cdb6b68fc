"""Latents are the negative: on the disk before anything else is tried, and pictures are made of them ever again."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import av
import numpy as np
import torch

from command import files_below
from native_videos import CLIPS, NATIVE, Render, StopHereError, break_at
from soundreel.engines.native.chain import kept_bytes
from soundreel.engines.native.vae import Vae
from soundreel.errors import EngineError, MediaError
from soundreel.media.video import SegmentWriter
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.pipeline import plan, prepare
from soundreel.request import Request, WorkOptions
from soundreel.types import Progress, Stage
from weight_files import needs_golden

pytestmark = needs_golden


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def render(tmp_path: Path) -> Render:
    return Render(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Render:
    """A finished render with its work folder; only to be copied."""
    whole = Render(tmp_path_factory.mktemp("finished"))
    whole()
    return whole


@pytest.fixture
def kept(finished: Render, tmp_path: Path) -> Render:
    return finished.copy_to(tmp_path)


def before_each_call(patch: pytest.MonkeyPatch, kind: type, name: str, do: Callable[[], object]) -> None:
    """Call `do` before each call of a method, which then does what it always does."""
    method = getattr(kind, name)

    def call(*args: Any, **options: Any) -> Any:
        do()
        return method(*args, **options)

    patch.setattr(kind, name, call)


def passes_of(patch: pytest.MonkeyPatch, on_pass: Callable[[], object] = lambda: None) -> list[int]:
    """A list that gets an entry for each pass of the model from now on."""
    passes: list[int] = []

    def count() -> None:
        passes.append(len(passes))
        on_pass()

    before_each_call(patch, WanS2VTransformer3DModel, "forward", count)
    return passes


# the order of things


def test_latents_are_on_the_disk_before_they_are_decoded_and_before_the_next_clip(
    render: Render, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_passes, at_decodes = [], []

    def negatives() -> int:
        return len(list(render.folder.rglob("*.latents.json")))

    passes_of(monkeypatch, lambda: at_passes.append(negatives()))
    before_each_call(monkeypatch, Vae, "decode", lambda: at_decodes.append(negatives()))
    render()
    assert at_passes == [0, 0, 1, 1, 2, 2]  # two branches of guidance
    assert at_decodes == [1, 2, 3]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, EngineError])
@pytest.mark.parametrize("clip", [1, CLIPS])
def test_a_decode_that_fails_for_good_leaves_latents_that_are_not_sampled_again(
    render: Render, finished: Render, monkeypatch: pytest.MonkeyPatch, clip: int, error: type[Exception]
) -> None:
    decodes = []

    def fail() -> None:
        decodes.append(0)
        if len(decodes) == clip:
            raise error("no room")

    with monkeypatch.context() as patch:
        before_each_call(patch, Vae, "decode", fail)
        with pytest.raises(EngineError) as told:
            render()
    whole, more = clip - 1, "and the latents of 1 more "
    says = f"{whole} of {CLIPS} clips {more}are kept, go on with: soundreel resume {render.work}"
    assert told.value.__notes__ == [says]
    assert len(render.latents()) == clip
    passes = passes_of(monkeypatch)
    render()
    assert render.sampled == set(range(clip + 1, CLIPS + 1))
    assert len(passes) == 2 * (CLIPS - clip)
    assert render.frames == finished.frames


def test_latents_stay_when_another_render_is_done_in_their_folder(
    render: Render, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no clip of them is encoded yet."""

    def fail() -> None:
        raise EngineError("no room")

    shared = render.folder / "work"
    with monkeypatch.context() as patch:
        before_each_call(patch, Vae, "decode", fail)
        with pytest.raises(EngineError, match="no room"):
            render(frames=5, work=WorkOptions(work_dir=shared))
    (latents,) = render.latents()
    other = WorkOptions(work_dir=shared, keep_work=False)
    render(frames=5, seed=9, output=render.folder / "other.mp4", work=other)
    assert render.latents() == [latents]
    render(frames=5, work=WorkOptions(work_dir=shared))
    assert render.sampled == set()


def breaking_video(path: Path) -> Path:
    """17 pictures, of which the last ones cannot be decoded."""
    noise = np.random.default_rng(0).integers(0, 255, (17, 64, 64, 3), dtype=np.uint8)
    with SegmentWriter(path, width=64, height=64) as writer:
        writer.write(noise)
    with av.open(str(path)) as file:
        packets = [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for start, size in packets[10:]:
        content[start : start + size] = b"\xff" * size
    path.write_bytes(content)
    return path


def test_a_pose_video_that_breaks_in_clip_2_costs_clip_1_nothing(render: Render) -> None:
    pose = breaking_video(render.folder / "pose.mp4")
    with pytest.raises(MediaError, match="pose.mp4"):
        render(pose_video=pose)
    assert render.sampled == {1}
    with pytest.raises(MediaError, match="pose.mp4") as told:
        render(pose_video=pose)
    assert render.sampled == set()
    assert render.told == f"1 of {CLIPS} clips are there, going on with clip 2"
    assert told.value.__notes__ == [f"1 of {CLIPS} clips are kept, go on with: soundreel resume {render.work}"]


def test_what_goes_wrong_in_writing_is_told_in_the_middle_of_the_next_clip(render: Render) -> None:
    steps = 40
    request = Request(**NATIVE | {"steps": steps, "output": render.video})
    asked = prepare(request)
    in_the_way = render.folder / ".soundreel" / asked.asked.fingerprint.digest[:16]
    name = f"clip_00001_{asked.clip_fingerprints[0][:8]}.mp4"

    def listen(progress: Progress) -> None:
        if progress.stage is Stage.RENDER and (progress.clip, progress.step) == (1, 1):
            (in_the_way / name).mkdir()

    with pytest.raises(MediaError, match=name) as told:
        render(listen, steps=steps)
    last = render.events[-1]
    assert (last.clip, last.step) < (2, steps)
    assert f"0 of {CLIPS} clips and the latents of 1 more are kept" in told.value.__notes__[0]


# what is kept of a clip


def test_only_the_newest_carry_is_kept_and_none_when_the_video_is_there(render: Render) -> None:
    with pytest.raises(StopHereError):
        render(break_at(clip=3))
    (carry,) = render.carries()
    assert carry.startswith("carry_00002_")
    assert len(render.latents()) == 2
    render()
    assert render.carries() == []
    assert len(render.latents()) == CLIPS


@pytest.mark.parametrize("damage", ["gone", "cut short", "of another clip"])
def test_a_carry_that_is_not_there_is_made_again_exactly(render: Render, finished: Render, damage: str) -> None:
    if damage == "of another clip":
        with pytest.raises(StopHereError):
            render(break_at(clip=2))
        earlier = render.work.joinpath(*render.carries()).read_bytes()
    with pytest.raises(StopHereError):
        render(break_at(clip=3))
    carry = render.work.joinpath(*render.carries())
    if damage == "gone":
        carry.unlink()
    else:
        carry.write_bytes(earlier if damage == "of another clip" else carry.read_bytes()[:-1])
    render()
    assert render.sampled == {3}
    assert render.frames == finished.frames
    assert [path.read_bytes() for path in render.latents()] == [path.read_bytes() for path in finished.latents()]


def test_without_carry_and_latents_what_they_were_is_sampled_again(render: Render, finished: Render) -> None:
    with pytest.raises(StopHereError):
        render(break_at(clip=3))
    render.work.joinpath(*render.carries()).unlink()
    render.latents(1)[0].unlink()
    render()
    assert render.sampled == {1, 3}
    assert render.frames == finished.frames


@pytest.mark.parametrize("clip", [1, 2, 3])
def test_damage_to_latents_costs_only_the_clip_that_they_are_of(kept: Render, finished: Render, clip: int) -> None:
    (latents,) = kept.latents(clip)
    whole = latents.read_bytes()
    latents.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    kept(crf=30)
    assert kept.sampled == {clip}
    assert latents.read_bytes() == whole
    says = f"the latents of clips {', '.join(str(k) for k in (1, 2, 3) if k != clip)} are there"
    assert says in kept.told


def test_damage_to_latents_costs_nothing_where_clips_are_whole(kept: Render, finished: Render) -> None:
    for path in kept.latents():
        path.unlink()
    kept()
    assert kept.sampled == set()
    assert kept.frames == finished.frames


def test_with_no_keep_work_nothing_is_left(render: Render) -> None:
    result = render(work=WorkOptions(keep_work=False))
    assert files_below(render.folder) == ["a.mp4"]
    assert (result.work_folder, result.work_bytes) == (None, 0)


def test_a_kept_folder_is_named_with_its_size(render: Render) -> None:
    result = render()
    files = [path for path in render.work.rglob("*") if path.is_file()]
    assert result.work_folder == render.work
    assert result.work_bytes == sum(path.stat().st_size for path in files)


def test_the_engine_knows_what_it_keeps(render: Render) -> None:
    with pytest.raises(StopHereError):
        render(break_at(clip=3))
    knows = kept_bytes(plan(Request(**NATIVE)))
    header = 300
    stored = [path.stat().st_size for path in render.latents()]
    assert all(0 < size - known < header for size, known in zip(stored, knows.negatives, strict=False))
    assert 0 < render.work.joinpath(*render.carries()).stat().st_size - knows.carry < header


# printed again


def test_another_crf_prints_again_without_a_pass(kept: Render, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in kept.work.glob("clip_*")}
    size, passes = kept.video.stat().st_size, passes_of(monkeypatch)
    kept(crf=40)
    assert kept.video.stat().st_size < size
    assert passes == []
    assert kept.loaded == {"Wan VAE"}
    assert [event.clip for event in kept.events if event.stage is Stage.PRINT] == [1, 2, 3]
    told = "printed again from kept latents: no pass of the model (output.crf changed; the earlier clips stay)"
    assert kept.told == told
    assert {path: path.read_bytes() for path in before} == before
    kept(crf=18)
    assert kept.told == f"all {CLIPS} clips are there from an earlier run"


def test_a_print_is_what_a_render_with_these_options_makes(kept: Render, tmp_path: Path) -> None:
    options = {"fps": 24, "interpolate": "motion", "color_match": True}
    kept(**options)
    assert kept.sampled == set()
    fresh = Render(tmp_path / "fresh")
    fresh(**options)
    assert fresh.sampled == {1, 2, 3}
    assert kept.frames == fresh.frames


def test_only_the_clips_that_are_missing_are_printed_again(render: Render, finished: Render) -> None:
    with pytest.raises(StopHereError):
        render(break_at(clip=3))
    (segment,) = render.work.glob("clip_00002_*[0-9a-f].mp4")
    segment.unlink()
    render(break_at(clip=4))
    assert render.sampled == {3}
    assert render.frames == finished.frames
    for path in render.work.glob("clip_00003_*.mp4"):
        path.unlink()
    render()
    assert render.told == "2 of 3 clips are there, the others are printed again from kept latents: no pass of the model"


def test_another_seed_is_no_print(kept: Render) -> None:
    kept(seed=1)
    assert kept.sampled == {1, 2, 3}
