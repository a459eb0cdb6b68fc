"""Room on the disk: told by plan, checked before anything is loaded, and what happens where it runs out after all."""

import errno
import json
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from command import events_of, files_below, finish, run_here, start
from soundreel.disk import durable
from soundreel.errors import MediaError
from soundreel.media.video import probe_video
from soundreel.pipeline import generate, prepare
from soundreel.render.room import disk_need, segment_bytes
from soundreel.request import Request, WorkOptions
from soundreel.types import Progress, Stage
from soundreel.wording import readable_size

MB = 1_000_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", place], capture_output=True, check=False)
    if mount.returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture(scope="module")
def two_clips(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Frames of a native render on a disk with room."""
    render = import_module("native_videos").Render(tmp_path_factory.mktemp("two-clips"))
    render(frames=13, guide_scale=1.0)
    frames: list[bytes] = render.frames
    return frames


def ask(tune: Path, **fields: Any) -> Request:
    """A draft of 9.6 s whose clips take 6 MB by the guess, and its video twice as much while it is made."""
    return Request(**{"audio": tune, "engine": "draft", "frames": 154, "infer_frames": 40} | fields)


# how much


def test_clips_and_video_are_guessed_by_size_length_and_quality(tune: Path) -> None:
    one = disk_need(prepare(ask(tune)))
    assert one.segments == pytest.approx(0.1 * 480 * 832 * 154, rel=1e-3)
    assert one.video == pytest.approx(2 * (one.segments + 25_000 * 154 / 16), rel=1e-3)
    assert (one.latents, one.carries) == (0, 0)
    assert disk_need(prepare(ask(tune, crf=12))).segments == pytest.approx(2 * one.segments, rel=1e-3)
    assert disk_need(prepare(ask(tune, frames=77, infer_frames=80))).video < one.video / 3  # one clip, no early look


def test_what_is_there_is_not_counted_again(tune: Path) -> None:
    render = prepare(ask(tune))
    clips = render.plan.clips
    part = disk_need(render, encoded=[0, 1])
    assert part.segments == sum(segment_bytes(render, clip) for clip in clips[2:])


def test_pictures_handed_on_for_interpolation_count(tune: Path) -> None:
    render = prepare(ask(tune, interpolate="motion"))
    segments = sum(segment_bytes(render, clip) for clip in render.plan.clips)
    assert disk_need(render).segments == segments + 480 * 832 * 3 * (len(render.plan.clips) - 1)


def test_plan_tells_it(tune: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need = disk_need(prepare(ask(tune)))
    options = ("--engine", "draft", "--frames", "154", "--infer-frames", "40")
    told = json.loads(run_here(capsys, "plan", tune, *options, "--json").out)
    assert (told["disk_bytes"], told["disk_kept_bytes"]) == (need.total, need.kept)
    (line,) = (line for line in run_here(capsys, "plan", tune, *options).out.splitlines() if line.startswith("disk"))
    clips, video = readable_size(need.segments), readable_size(need.video)
    assert line.split(maxsplit=1)[1].strip() == f"about {readable_size(need.total)} (clips {clips}, video {video})"


# whether it is there


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_too_little_room_is_told_before_anything_begins(
    tune: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ask(tune, width=64, height=64, output=tmp_path / "a.mp4")
    need, events = disk_need(prepare(request)).total, list[Progress]()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10 * need, 9 * need + 1, need - 1))
    with pytest.raises(MediaError) as told:
        generate(request, events.append)
    assert f"has {readable_size(need - 1)} free" in str(told.value)
    assert f"clips, latents and the video take about {readable_size(need)}" in str(told.value)
    assert len(str(told.value).splitlines()) == 1
    assert (events, files_below(tmp_path)) == ([], [])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10 * need, 9 * need, need))
    assert generate(request).path.exists()


@pytest.mark.parametrize(
    ("small", "what", "option"),
    [("work", "clips and latents", "--work-dir"), ("output", "the video", "--output")],
)
def test_each_file_system_is_looked_at(
    tune: Path, tmp_path: Path, small_disk: Path, small: str, what: str, option: str
) -> None:
    large = tmp_path / "large"
    places = {"work": large / "work", "output": large / "a.mp4"}
    places[small] = small_disk / places[small].name
    request = ask(tune, frames=400 if small == "work" else 300, output=places["output"])
    need, events = disk_need(prepare(request)), list[Progress]()
    with pytest.raises(MediaError) as told:
        generate(request, events.append, work=WorkOptions(work_dir=places["work"]))
    size = need.work if small == "work" else need.video
    assert size > 12 * 2**20
    assert f"{str(small_disk)!r} has 12.6 MB free, {what} take about {readable_size(size)}" in str(told.value).replace(
        f"{small_disk!s}/work", str(small_disk)
    )
    assert str(told.value).endswith(f"name another place with {option}")
    assert events == []
    assert files_below(small_disk) == []


def test_a_disk_that_fills_before_the_final_write_costs_no_clip(
    tune: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, filler = small_disk / "a.mp4", small_disk / "filler"
    request = ask(tune, width=64, height=64, output=video)

    def fill_up(progress: Progress) -> None:
        if (progress.stage, progress.clip) == (Stage.WRITE, 0):
            fill(filler)

    with pytest.raises(
        MediaError, match=r"cannot write 'finished\.mp4' .*: No space left.*needed, 0 bytes are free"
    ) as told:
        generate(request, fill_up)
    (kept,) = told.value.__notes__
    assert kept.startswith("4 of 4 clips are kept")
    filler.unlink()
    (work,) = (small_disk / ".soundreel").iterdir()
    assert run_here(capsys, "resume", work, "--quiet").code == 0
    assert probe_video(video).frames == 154
    assert files_below(small_disk) == ["a.mp4"]


def fill(filler: Path) -> None:
    """Take all room that is left where `filler` is."""
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


class TestNative:
    """Latents and motion frames."""

    @pytest.fixture(autouse=True)
    def renders(self) -> Any:
        pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
        pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")
        files = pytest.importorskip("weight_files")
        if not files.GOLDEN.is_dir():
            pytest.skip("../shared/golden is not here")
        return pytest.importorskip("native_videos")

    def test_latents_and_motion_frames_of_a_song(self, renders: Any) -> None:
        frames, clips = 40 * 80 - 3, 40
        request = Request(**renders.NATIVE | {"width": 480, "height": 832, "frames": frames, "infer_frames": 80})
        need = disk_need(prepare(request))
        a_frame = 16 * (480 // 8) * (832 // 8) * 4
        assert need.latents == clips * 20 * a_frame + (clips - 1) * 19 * a_frame
        assert need.latents / clips == pytest.approx(16 * MB, rel=0.05)
        assert need.carries == 2 * 73 * 3 * 480 * 832 * 4

    def test_what_is_sampled_takes_neither_latents_nor_motion_frames(self, renders: Any) -> None:
        render = prepare(Request(**renders.NATIVE))
        assert disk_need(render, sampled=[0, 1]).carries == disk_need(render).carries / 2
        printed = disk_need(render, sampled=[0, 1, 2])
        assert (printed.latents, printed.carries) == (0, 0)

    def test_too_little_room_is_told_before_anything_is_loaded(
        self, renders: Any, tmp_path: Path, small_disk: Path
    ) -> None:
        (small_disk / "filler").write_bytes(bytes(6 * MB))
        render = renders.Render(tmp_path / "video")
        with pytest.raises(MediaError, match="has 6.6 MB free, clips and latents take about 7.4 MB"):
            render(work=WorkOptions(work_dir=small_disk / "work"), width=64, height=64)
        assert render.events == []

    def command(self, renders: Any, folder: Path, work: Path, *options: str) -> list[str]:
        sound = str(renders.NATIVE["audio"])
        options = (*renders.AS_OPTIONS, "--work-dir", str(work), "--no-keep-work", *options)
        return ["generate", sound, *options, "-o", str(folder / "a.mp4"), "--progress", "json"]

    def test_a_disk_that_fills_while_latents_are_written(
        self, renders: Any, tmp_path: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        work, filler = small_disk / "work", small_disk / "filler"
        two_clips = ("--frames", "13", "--guide-scale", "1")
        command = self.command(renders, tmp_path / "video", work, *two_clips, "--steps", "24")
        process = start(*command)
        for event in events_of(process):
            if (event.get("stage"), event.get("clip")) == ("render", 2):
                process.send_signal(signal.SIGSTOP)
                if list(work.glob("carry_00001_*.safetensors")):  # clip 1 is written, clip 2 is being sampled
                    break
                process.send_signal(signal.SIGCONT)
        fill(filler)
        before = {path: path.read_bytes() for path in work.glob("clip_00001_*")}
        process.send_signal(signal.SIGCONT)
        done = finish(process)
        says = done.events[-1]["message"]
        assert done.code == 3
        assert "cannot write 'clip_00002_" in says
        assert ".latents.safetensors' in folder" in says
        assert f"go on with: soundreel resume {work}" in says
        assert len(before) >= 2
        assert {path: path.read_bytes() for path in before} == before
        assert not list(work.glob("*.tmp"))
        filler.unlink()
        again = run_here(capsys, "resume", work, "--progress", "json")
        sampled = {e["clip"] for e in again.events if e.get("stage") == "render"}
        assert (again.code, sampled) == (0, {2})
        unbroken = renders.Render(tmp_path / "unbroken")
        unbroken(frames=13, guide_scale=1.0, steps=24)
        assert renders.Render(tmp_path / "video").frames == unbroken.frames

    def test_latents_that_do_not_fit_cost_nothing_that_was_there(
        self, renders: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """As on a full disk, with a limit on the size of files: those of clip 3 are larger than those of clip 1."""
        render, limit = renders.Render(tmp_path), 60_000
        with pytest.raises(renders.StopHereError):
            render(renders.break_at(clip=3), work=WorkOptions(work_dir=tmp_path / "work"), width=64, height=64)
        work = tmp_path / "work"
        before = {path: path.read_bytes() for path in [*work.glob("clip_*"), *work.glob("carry_*")]}
        command = self.command(renders, tmp_path, work, "--steps", "1", "--size", "64x64")
        done = finish(start(*command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))))
        says = done.events[-1]["message"]
        assert done.code == 3
        assert "cannot write 'clip_00003_" in says
        assert f"2 of 3 clips are kept, go on with: soundreel resume {work}" in says
        assert {path: path.read_bytes() for path in before} == before
        assert not list(work.glob("*.tmp"))
        assert run_here(capsys, *command).code == 0
        assert files_below(tmp_path) == ["a.mp4"]

    @pytest.mark.parametrize(
        ("name", "is_sampled_again"),
        [
            (r"clip_00001_\w+\.latents\.json", True),
            (r"clip_00001_\w+\.mp4", False),
            (r"carry_00001_\w+\.safetensors", False),
        ],
    )
    def test_a_disk_that_is_full_at_any_file_costs_that_file(
        self,
        renders: Any,
        two_clips: list[bytes],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        name: str,
        is_sampled_again: bool,
    ) -> None:
        work = tmp_path / "work"
        command = self.command(renders, tmp_path, work, "--steps", "1", "--frames", "13", "--guide-scale", "1")
        rename = durable.rename_durably

        def rename_if_there_is_room(temporary: Path, path: Path) -> None:
            if re.fullmatch(name, path.name):
                raise OSError(errno.ENOSPC, "No space left on device")
            rename(temporary, path)

        with monkeypatch.context() as patch:
            patch.setattr(durable, "rename_durably", rename_if_there_is_room)
            done = run_here(capsys, *command)
        line = done.events[-1]["message"]
        assert done.code == 3
        assert re.match(f"cannot write '{name}' in folder '{work}': No space left", line)
        assert line.endswith(f"go on with: soundreel resume {work}") != is_sampled_again, "or there is nothing to keep"
        assert not list(work.glob("*.tmp"))
        again = run_here(capsys, *command)
        sampled = {event["clip"] for event in again.events if event.get("stage") == "render"}
        assert (again.code, 1 in sampled) == (0, is_sampled_again)
        assert renders.Render(tmp_path).frames == two_clips
        assert files_below(tmp_path) == ["a.mp4"]
