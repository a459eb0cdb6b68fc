"""soundreel reprint: a kept render printed again, from latents and segments alone, and refused where they are not."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import torch

from command import Outcome, files_below, run_here
from native_videos import AS_OPTIONS, NATIVE, Render, StopHereError, break_at
from soundreel import reprint
from soundreel.engines.base import Identity, Prepared
from soundreel.engines.native import NativeEngine
from soundreel.errors import InputError
from soundreel.media.video import probe_video, read_frames
from soundreel.render.recipe import read_recipe
from soundreel.types import Plan, Progress, Stage
from weight_files import OFFICIAL, needs_golden, writable_copy

PRINTED = "printed again from kept latents: no pass of the model"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Render:
    """A finished render with its work folder; only to be copied."""
    whole = Render(tmp_path_factory.mktemp("finished"))
    whole()
    return whole


@pytest.fixture
def kept(finished: Render, tmp_path: Path) -> Render:
    return finished.copy_to(tmp_path)


def frames(path: Path) -> list[bytes]:
    return [frame.tobytes() for frame in read_frames(path)]


def plan_of(render: Render) -> bytes:
    return (render.work / "plan.json").read_bytes()


def refusal(done: Outcome) -> str:
    """The one line of a command that was refused."""
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    return line


@needs_golden
class TestNative:
    def test_a_video_is_printed_again_beside_itself(self, kept: Render, capsys: pytest.CaptureFixture[str]) -> None:
        before = kept.video.read_bytes()
        done = run_here(capsys, "reprint", kept.video, "--crf", "40", "--progress", "lines")
        assert done.path == kept.folder / "a_print2.mp4"
        assert kept.video.read_bytes() == before
        assert done.path.stat().st_size < len(before)
        assert f"{PRINTED} (output.crf changed; the earlier clips stay)" in done.err.splitlines()
        assert not any("render clip" in line or "S2V" in line for line in done.err.splitlines())
        assert f"kept for redo and reprint: {kept.work}" in done.err
        assert run_here(capsys, "reprint", kept.video, "--crf", "44", "-q").path == kept.folder / "a_print3.mp4"
        assert run_here(capsys, "reprint", kept.folder / "a_print2.mp4", "-q").path == kept.folder / "a_print4.mp4"
        assert frames(kept.folder / "a_print4.mp4") == frames(kept.folder / "a_print2.mp4")

    def test_a_folder_and_a_name(self, kept: Render, capsys: pytest.CaptureFixture[str]) -> None:
        done = run_here(capsys, "reprint", kept.work, "--fps", "24", "-o", kept.folder / "b.mp4", "--progress", "json")
        start, *_, result = done.events
        assert (start["event"], start["printed_again"], start["frames"], start["fps"]) == ("start", True, 26, 24)
        assert start["resumed"].startswith(PRINTED)
        assert (result["event"], result["path"]) == ("result", str(kept.folder / "b.mp4"))
        assert result["work_folder"] == str(kept.work)
        assert result["work_bytes"] == sum(path.stat().st_size for path in kept.work.rglob("*") if path.is_file())
        assert probe_video(kept.folder / "b.mp4").fps == 24

    def test_noise_is_printed_without_loss(self, kept: Render, capsys: pytest.CaptureFixture[str]) -> None:
        """Random weights paint noise, of which x264 without loss makes one keyframe after another."""
        done = run_here(capsys, "reprint", kept.video, "--crf", "0", "-q")
        assert done.code == 0, done.err
        assert probe_video(done.path).frames == 17

    def test_the_work_folder_may_be_elsewhere(self, kept: Render, capsys: pytest.CaptureFixture[str]) -> None:
        elsewhere, video = kept.folder / "clips", kept.folder / "videos" / "c.mp4"
        kept.work.rename(elsewhere)
        video.parent.mkdir()
        kept.video.rename(video)
        assert "the clips of" in refusal(run_here(capsys, "reprint", video, "--crf", "30"))
        done = run_here(capsys, "reprint", video, "--crf", "30", "--work-dir", elsewhere, "-q")
        assert done.path == video.with_name("c_print2.mp4")
        assert files_below(video.parent) == ["c.mp4", "c_print2.mp4"]

    @pytest.mark.parametrize(
        ("made_with", "printed_with", "fps"),
        [
            ({}, {"interpolate": "motion"}, 32),
            ({"fps": 24}, {"interpolate": "none"}, 16),
            ({"fps": 24}, {"interpolate": "motion"}, 24),
            ({"interpolate": "motion"}, {"fps": 16}, 16),
            ({"fps": 16}, {"interpolate": "motion"}, 32),
        ],
    )
    def test_the_rate_goes_with_the_method(
        self, kept: Render, made_with: dict[str, object], printed_with: dict[str, object], fps: int
    ) -> None:
        kept(**made_with)
        assert reprint(kept.video, **printed_with).fps == fps

    def test_of_a_video_the_other_options_are_its_own(self, kept: Render) -> None:
        kept(crf=30, output=kept.folder / "second.mp4")
        output = read_recipe(reprint(kept.video, color_match=True).path)["request"]["output"]
        assert (output["crf"], output["color_match"]) == (18, True)
        output = read_recipe(reprint(kept.folder / "second.mp4", color_match=True).path)["request"]["output"]
        assert (output["crf"], output["color_match"]) == (30, True)

    def test_each_take_is_printed_as_it_is(self, kept: Render, capsys: pytest.CaptureFixture[str]) -> None:
        take = run_here(capsys, "redo", kept.video, "2", "-o", kept.folder / "a_take2.mp4", "-q").path
        first, second = reprint(kept.video).path, reprint(take).path
        assert frames(first) == frames(kept.video)
        assert frames(second) == frames(take)
        assert frames(first) != frames(second)

    def test_an_interrupted_print_goes_on(self, kept: Render) -> None:
        def stop(progress: Progress) -> None:
            if progress.stage is Stage.PRINT and progress.clip == 3:
                raise StopHereError

        with pytest.raises(StopHereError):
            reprint(kept.video, stop, crf=30)
        printed = sorted(path.name for path in kept.work.glob("clip_*.mp4"))
        events: list[Progress] = []
        assert reprint(kept.video, events.append, crf=30).path == kept.folder / "a_print2.mp4"
        assert [event.clip for event in events if event.stage is Stage.PRINT] == [3]
        assert set(printed) < {path.name for path in kept.work.glob("clip_*.mp4")}

    def test_missing_latents_are_never_sampled(self, kept: Render, capsys: pytest.CaptureFixture[str]) -> None:
        for clip in (1, 3):
            kept.latents(clip)[0].unlink()
        before, files = plan_of(kept), files_below(kept.folder)
        says = refusal(run_here(capsys, "reprint", kept.video, "--crf", "30"))
        assert says == (
            f"soundreel: the latents of clips 1, 3 of 3 are not in '{kept.work}': the command that rendered them, with "
            "the new options, renders them again"
        )
        assert (plan_of(kept), files_below(kept.folder)) == (before, files)
        kept(crf=30)
        assert kept.sampled == {1, 3}

    def test_an_unfinished_render_is_finished_first(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        render = Render(tmp_path)
        with pytest.raises(StopHereError):
            render(break_at(clip=3))
        before = plan_of(render)
        says = refusal(run_here(capsys, "reprint", tmp_path, "--crf", "30"))
        assert "the latents of clip 3 of 3 are not" in says
        assert f"soundreel resume {render.work}" in says
        assert plan_of(render) == before

    def test_another_sound_is_another_render(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        sound = tmp_path / "sound.wav"
        sound.write_bytes(Path(os.fspath(NATIVE["audio"])).read_bytes())  # type: ignore[call-overload]
        render = Render(tmp_path)
        render(audio=sound)
        content = bytearray(sound.read_bytes())
        content[-1000:] = bytes(1000)
        sound.write_bytes(content)
        assert "these have changed since: audio" in refusal(run_here(capsys, "reprint", render.work, "--crf", "30"))

    def test_the_plain_command_says_so_as_well(self, kept: Render, capsys: pytest.CaptureFixture[str]) -> None:
        command = ("generate", str(NATIVE["audio"]), *AS_OPTIONS, "--steps", "1", "-o", kept.video)
        done = run_here(capsys, *command, "--crf", "30", "--progress", "json")
        start = done.events[0]
        assert (start["printed_again"], start["resumed"].partition(" (")[0]) == (True, PRINTED)
        again = run_here(capsys, *command, "--crf", "18", "--progress", "json")
        assert again.events[0]["printed_again"] is False

    def test_an_unknown_option_is_named(self, kept: Render) -> None:
        with pytest.raises(InputError, match="'steps'.*color_match, crf, fps, interpolate, weights"):
            reprint(kept.video, steps=4)


@needs_golden
class TestNativeFiles:
    """Of the model the VAE alone, and any device."""

    def test_the_vae_is_all_that_printing_needs(
        self, tmp_path: Path, cover: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        models, render = writable_copy(OFFICIAL, tmp_path / "models"), Render(tmp_path / "video")
        render(models=models, engine="auto", frames=13, ref_image=cover, guide_scale=1.0)
        beside = render.copy_to(tmp_path / "beside")
        expected = run_here(capsys, "reprint", render.video, "--crf", "30", "-q").path
        for path in [path for path in models.rglob("*") if path.is_file() and "VAE" not in path.name]:
            path.unlink()
        done = run_here(capsys, "reprint", beside.video, "--crf", "30", "--progress", "json")
        start, *_ = events = done.events
        assert (done.code, start["engine"], start["printed_again"]) == (0, "native", True)
        assert {event["what"] for event in events if event.get("stage") == "load"} == {"Wan VAE"}
        assert frames(Path(events[-1]["path"])) == frames(expected)
        recipe, original = read_recipe(events[-1]["path"]), read_recipe(render.video)
        assert recipe["models"] == original["models"], "they made it"
        assert len(recipe["models"]) > 1
        before = files_below(beside.folder)
        (vae,) = models.glob("*VAE*")
        content = torch.load(vae)
        first = next(iter(content))
        torch.save({**content, first: content[first] + 1}, vae)
        says = refusal(run_here(capsys, "reprint", beside.video, "--crf", "40"))
        assert "these have changed since: model files" in says
        vae.unlink()
        done = run_here(capsys, "reprint", beside.video, "--crf", "40")
        assert done.code == 4
        assert "no VAE (" in done.err
        assert files_below(beside.folder) == before

    def test_another_kind_of_device_prints_and_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        render, prepare = Render(tmp_path), NativeEngine.prepare

        def prepare_as_on_a_gpu(engine: NativeEngine, plan: Plan, kept: Identity | None = None) -> Prepared:
            decided = prepare(engine, plan, kept)
            return replace(decided, identity={**decided.identity, "device": "cuda"})

        with monkeypatch.context() as patch:
            patch.setattr(NativeEngine, "prepare", prepare_as_on_a_gpu)
            render(frames=5)
        done = run_here(capsys, "reprint", render.video, "--crf", "30", "--progress", "lines")
        assert done.code == 0
        assert "note: the render was begun on cuda and is printed on cpu, which rounds otherwise" in done.err
        recipe = read_recipe(done.path)
        assert [clip["decoded"] for clip in recipe["plan"]["clips"]] == ["on the CPU"]
        assert any(note.startswith("clip 1 was decoded on the CPU") for note in recipe["notes"])


class TestDraft:
    """An engine without latents: only what its segments allow."""

    @pytest.fixture
    def video(self, tmp_path: Path, tune: Path, capsys: pytest.CaptureFixture[str]) -> Path:
        options = ("--engine", "draft", "--size", "64x64", "--frames", "33", "--infer-frames", "16", "--keep-work")
        return run_here(capsys, "generate", tune, *options, "-o", tmp_path / "a.mp4", "-q").path

    def test_the_same_again_is_joined_from_its_segments(self, video: Path, capsys: pytest.CaptureFixture[str]) -> None:
        expected = frames(video)
        video.unlink()
        (work,) = (video.parent / ".soundreel").iterdir()
        done = run_here(capsys, "reprint", work, "--progress", "json")
        assert {event["stage"] for event in done.events if event["event"] == "progress"} == {"write"}
        assert frames(done.path) == expected

    def test_another_crf_is_refused_in_one_line(self, video: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = files_below(video.parent)
        says = refusal(run_here(capsys, "reprint", video, "--crf", "30"))
        assert "the engine draft keeps no latents, and clips 1, 2, 3 of 3 are not in" in says
        assert "the command that rendered them, with the new options, renders them anew" in says
        assert files_below(video.parent) == before

    @pytest.mark.parametrize("source", ["nowhere", "a.txt"])
    def test_a_place_without_a_render(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str) -> None:
        (tmp_path / "a.txt").write_text("text")
        done = run_here(capsys, "reprint", tmp_path / source)
        assert done.code in {2, 3}
        assert source in done.err
        assert len(done.err.splitlines()) == 1
