"""Rows of which only the file is wanted otherwise are printed from what is kept: no pass of the model, no GPU.

In the process of the test, as an actor renders them: nothing here needs Ray.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

from command import run_here
from native_videos import NATIVE
from soundreel.batch.actors import HandedBack, Outcome, Worker
from soundreel.batch.kept import kept_render
from soundreel.batch.manifest import Row, Work, read_manifest
from soundreel.batch.results import FOUND, MADE
from soundreel.batch.rows import Device, group_of
from soundreel.media.video import probe_video, read_frames
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.render.recipe import read_recipe
from weight_files import needs_golden

pytestmark = needs_golden

SONG = {name: str(value) if isinstance(value, Path) else value for name, value in NATIVE.items()} | {
    "frames": 5,
    "guide_scale": 1,
}


def row_of(folder: Path, **fields: Any) -> Row:
    """A row that says this, with what `check` of the command finds of it."""
    path = folder / "rows.jsonl"
    path.write_text(json.dumps({"id": "song"} | SONG | fields) + "\n")
    (row,) = read_manifest(path)
    assert isinstance(row, Row), row
    return row if kept_render(row, folder / "out") is None else replace(row, work=Work.PRINT)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    """It has rendered `SONG`."""
    folder = tmp_path_factory.mktemp("batch")
    worker = Worker(folder / "out", None, 0)
    outcome = worker.render(row_of(folder), 1)
    assert isinstance(outcome, Outcome)
    assert (outcome.result.state, outcome.result.printed_again) == (MADE, False), outcome.result.reason
    return worker


@pytest.fixture
def folder(worker: Worker) -> Path:
    return worker.output.parent


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets an entry for each pass of the model."""
    counted: list[int] = []
    forward = WanS2VTransformer3DModel.forward

    def count(*args: Any, **options: Any) -> Any:
        counted.append(1)
        return forward(*args, **options)

    monkeypatch.setattr(WanS2VTransformer3DModel, "forward", count)
    return counted


@pytest.mark.parametrize(
    ("fields", "fps"),
    [({"crf": 30}, 16), ({"color_match": True, "interpolate": "motion", "fps": 24}, 24)],
)
def test_what_only_encodes_otherwise_takes_no_pass(
    worker: Worker, folder: Path, passes: list[int], fields: dict[str, Any], fps: int
) -> None:
    row = row_of(folder, **fields)
    outcome = worker.render(row, 1)
    assert isinstance(outcome, Outcome)
    assert (outcome.result.state, outcome.result.printed_again) == (MADE, True), outcome.result.reason
    assert passes == []
    video = worker.output / "song.mp4"
    assert probe_video(video).fps == fps
    recipe = read_recipe(video)["request"]["output"]
    assert {name: recipe[name] for name in fields} == fields


def test_scores_of_a_kept_render_take_no_pass(worker: Worker, folder: Path, passes: list[int]) -> None:
    outcome = worker.render(row_of(folder, score=True), 1)
    assert isinstance(outcome, Outcome)
    assert passes == []
    assert outcome.result.scores["frames"] == 5


def test_it_may_be_of_an_engine_that_a_machine_without_gpu_would_not_choose(
    worker: Worker, folder: Path, passes: list[int]
) -> None:
    """Its video is then found as that of the row, too."""
    row = row_of(folder, engine="auto", device="auto", crf=33)
    assert row.work is Work.ANY, "made on another device, of which nothing is kept"
    row = row_of(folder, engine="auto", crf=33)
    assert row.work is Work.PRINT
    for state in (MADE, FOUND):
        outcome = worker.render(row, 1)
        assert isinstance(outcome, Outcome)
        assert (outcome.result.state, outcome.result.engine) == (state, "native"), outcome.result.reason
    assert passes == []


@pytest.mark.parametrize("fields", [{"seed": 8}, {"prompt": "rain"}, {"frames": 4}, {"steps": 2}, {"id": "other"}])
def test_other_pictures_are_to_be_sampled(worker: Worker, folder: Path, fields: dict[str, Any]) -> None:
    assert row_of(folder, **fields).work is Work.ANY


def test_what_cannot_be_printed_is_handed_back_and_then_rendered(tmp_path: Path, passes: list[int]) -> None:
    worker = Worker(tmp_path / "out", None, 0)
    worker.render(row_of(tmp_path), 1)
    negative = next((tmp_path / "out").rglob("*.latents.safetensors"))
    negative.write_bytes(negative.read_bytes()[:-1])
    row = row_of(tmp_path, crf=30)
    assert row.work is Work.PRINT, "so it looks"
    passes.clear()
    back = worker.render(row, 1)
    assert isinstance(back, HandedBack)
    assert (back.row.work, passes) == (Work.WHOLE, [])
    outcome = worker.render(back.row, 1)
    assert isinstance(outcome, Outcome)
    assert (outcome.result.state, bool(passes)) == (MADE, True)


def test_a_row_with_scores_is_sampled_by_one_and_written_by_another(tmp_path: Path, passes: list[int]) -> None:
    sampler, writer = (Worker(tmp_path / "out", None, 0) for _ in range(2))
    back = sampler.render(row_of(tmp_path, score=True), 1, hands_on=True)
    assert isinstance(back, HandedBack)
    assert (back.row.work, bool(passes)) == (Work.PRINT, True)
    assert not (tmp_path / "out" / "song.mp4").exists()
    passes.clear()
    outcome = writer.render(back.row, 1)
    assert isinstance(outcome, Outcome)
    assert (outcome.result.state, outcome.result.scores["frames"], passes) == (MADE, 5, [])
    other = Worker(tmp_path / "in one go", None, 0).render(replace(back.row, work=Work.ANY), 1)
    assert isinstance(other, Outcome)
    frames = [[frame.tobytes() for frame in read_frames(tmp_path / name / "song.mp4")] for name in ("out", "in one go")]
    assert frames[0] == frames[1]


def test_a_draft_is_left_to_nobody(tmp_path: Path) -> None:
    row = row_of(tmp_path, engine="draft", score=True)
    outcome = Worker(tmp_path / "out", None, 1).render(row, 1, hands_on=True)
    assert isinstance(outcome, Outcome)
    assert (outcome.result.state, outcome.result.engine) == (MADE, "draft")


def test_of_several_versions_each_is_kept(tmp_path: Path, passes: list[int]) -> None:
    """All clips of an id are in one folder: to go back to what a row has said before is a print, too."""
    worker = Worker(tmp_path / "out", None, 0)
    for seed in (1, 2):
        worker.render(row_of(tmp_path, seed=seed), 1)
    passes.clear()
    row = row_of(tmp_path, seed=1, crf=30)
    assert row.work is Work.PRINT
    outcome = worker.render(row, 1)
    assert isinstance(outcome, Outcome)
    assert (outcome.result.printed_again, passes) == (True, [])
    assert read_recipe(tmp_path / "out" / "song.mp4")["request"]["seed"] == 1


def test_what_is_printed_takes_no_gpu_and_the_plan_says_so(
    worker: Worker, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [replace(row_of(folder), work=work) for work in (Work.ANY, Work.WHOLE, Work.PRINT)]
    on_gpus = [replace(row, request=row.request.replace(device="auto")) for row in rows]
    assert [group_of(row).device for row in rows] == [Device.CPU] * 3
    assert [group_of(row).device for row in on_gpus] == [Device.GPU, Device.GPU, Device.EITHER]
    row_of(folder, crf=36)
    words = ("--output-dir", folder / "out", "--dry-run", "--price", "2")
    plan = json.loads(run_here(capsys, "batch", folder / "rows.jsonl", *words, "--json").out)
    (planned,) = plan["plan"]
    assert (planned["printed_again"], planned["takes_gpu"], planned["cost"], plan["cost"]) == (True, False, 0, 0)
    told = run_here(capsys, "batch", folder / "rows.jsonl", *words).out
    assert "1 of them printed again from kept latents" in told
    assert "time    no pass of the model" in told


def test_a_video_of_a_batch_is_printed_again_by_the_command_for_one(
    worker: Worker, folder: Path, capsys: pytest.CaptureFixture[str], passes: list[int]
) -> None:
    done = run_here(capsys, "reprint", folder / "out" / "song.mp4", "--crf", "44", "-q")
    assert (done.code, passes) == (0, []), done.err
