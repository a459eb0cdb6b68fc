"""Manifests: JSON lines and CSV become rows, and all that is wrong in them is told at once. Nothing here needs Ray."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from command import files_below, run_here
from conftest import EXAMPLES
from soundreel.batch import cluster
from soundreel.batch.actors import VERSIONS, About, look
from soundreel.batch.cluster import refuse_unfit
from soundreel.batch.manifest import Row, parse_settings, read_manifest
from soundreel.batch.results import MADE, Results, RowResult, asked_of, is_done
from soundreel.batch.rows import Rows, group_of
from soundreel.errors import EngineError, InputError
from soundreel.request import EngineName

TUNE = EXAMPLES / "tune.flac"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tune.flac").symlink_to(TUNE)
    return tmp_path


def write(folder: Path, *rows: Any, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def rows_of(path: Path, **defaults: Any) -> list[Row]:
    found = list(read_manifest(path, defaults))
    assert all(isinstance(row, Row) for row in found), found
    return [row for row in found if isinstance(row, Row)]


def problems_of(path: Path) -> list[str]:
    return [str(problem) for found in read_manifest(path) if isinstance(found, list) for problem in found]


class TestRows:
    def test_dotted_flat_and_grouped_names_mean_the_same(self, folder: Path) -> None:
        plain = {"audio": "tune.flac"}
        path = write(
            folder,
            plain | {"id": "a", "output.crf": 20, "sampling.steps": 4},
            plain | {"id": "b", "crf": 20, "steps": 4},
            plain | {"id": "c", "output": {"crf": 20}, "sampling": {"steps": 4}},
        )
        first, *others = rows_of(path)
        assert (first.request.output.crf, first.request.sampling.steps) == (20, 4)
        assert [row.request for row in others] == [first.request] * 2

    def test_paths_are_those_beside_the_manifest(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir("/")
        (row,) = rows_of(write(folder, {"id": "a", "audio": "tune.flac"}))
        assert row.request.audio == folder / "tune.flac"

    def test_a_table_says_the_same_as_lines(self, folder: Path) -> None:
        table = write(
            folder,
            "id,audio,engine,frames,output.color_match,prompt",
            'a,tune.flac,draft,9,true,"dusk, rain"',
            "b,tune.flac,draft,,,",
            name="rows.csv",
        )
        lines = write(
            folder,
            {"id": "a", "audio": "tune.flac", "engine": "draft", "frames": 9, "color_match": True}
            | {"prompt": "dusk, rain"},
            {"id": "b", "audio": "tune.flac", "engine": "draft"},
        )
        assert [(row.id, row.request) for row in rows_of(table)] == [(row.id, row.request) for row in rows_of(lines)]

    def test_defaults_yield_to_the_row(self, folder: Path) -> None:
        path = write(
            folder,
            {"id": "a", "audio": "tune.flac"},
            {"id": "b", "audio": "tune.flac", "crf": 30, "window.duration": 1},
        )
        first, second = rows_of(path, **parse_settings(["output.crf=16", "frames=9"]))
        assert (first.request.output.crf, first.request.window.frames) == (16, 9)
        assert (second.request.output.crf, second.request.window.frames) == (30, None)

    def test_a_storyboard_is_a_request_and_the_row_wins(self, folder: Path) -> None:
        path = write(folder, {"id": "a", "storyboard": str(EXAMPLES / "song.toml"), "engine": "draft", "frames": 9})
        (row,) = rows_of(path)
        assert row.request.shots
        assert (row.request.engine, row.request.window.frames) == (EngineName.DRAFT, 9)

    def test_one_that_is_null_is_none_and_a_sound_may_be_that_of_all(self, folder: Path) -> None:
        defaults = {"audio": folder / "tune.flac"}
        (row,) = rows_of(write(folder, {"id": "a", "storyboard": None}), **defaults)
        assert row.request.audio == defaults["audio"]

    def test_rows_without_an_id_have_the_same_one_again(self, folder: Path) -> None:
        path = write(folder, {"audio": "tune.flac"}, {"audio": "tune.flac", "seed": 1})
        ids = [row.id for row in rows_of(path)]
        assert ids == [row.id for row in rows_of(path)]
        assert len(set(ids)) == 2
        assert all(name.startswith("tune-") for name in ids)


WRONG = [
    ({"audio": "tune.flac", "steps": 0, "crf": 99}, ["line 1, steps: ", "line 1, crf: "]),
    ({"audio": "no.flac"}, ["line 1, audio: no such sound"]),
    ({}, ["line 1, audio: expected the file of the sound"]),
    ({"storyboard": 4}, ["line 1, storyboard: storyboard is 4"]),
    ({"storyboard": None}, ["line 1, audio: expected the file of the sound"]),
    ({"audio": "tune.flac", "stepz": 4}, ["line 1, stepz: there is no such field: is steps meant?"]),
    ({"audio": "tune.flac", "output_dirr": "x"}, ["line 1, output_dirr: there is no such field"]),
    ({"audio": "tune.flac", "output.path": "x.mp4"}, ["line 1, output.path: a video is called by its row's id"]),
    ({"audio": "tune.flac", "id": "../x"}, ["line 1, id: '../x' is no name of a file"]),
    ({"audio": "tune.flac", "id": "\ud800"}, ["line 1, id: "]),
    ({"audio": "tune.flac", "id": "x.partial"}, ["line 1, id: 'x.partial': what ends in .partial"]),
    ({"audio": "tune.flac", "id": "é" * 101}, ["line 1, id: it has 202 bytes"]),
    ({"audio": "tune.flac", "id": ["x"]}, ["line 1, id: expected a text"]),
    ({"audio": "tune.flac", "frames": 9, "audio_duration": 2}, ["line 1"]),
    ({"audio": "tune.flac", "steps": 0, "width": 481}, ["line 1, steps: ", "line 1, width: "]),
    ({"audio": "tune.flac", "output": "x.mp4"}, ['line 1, output: expected an object, as {"crf": …}']),
    ({"audio": "tune.flac", "output.crf": 14, "crf": 15}, ["line 1, crf: another name of this field"]),
    ({"audio": "tune.flac", "lora": []}, ["line 1, lora: there is no such field: is compute.loras meant?"]),
    ({"audio": "tune.flac", "Seed": 4}, ["line 1, Seed: there is no such field: is seed meant?"]),
    ({"audio": "tune.flac", "preset": "turbo"}, ["line 1, preset: a row has no presets"]),
    ('{"id": "a", "audio": "tune.flac", "id": "b"}', ["line 1, id: it is there twice"]),
    ("[1]", ["line 1: expected an object"]),
    ("{nonsense", ["line 1: this is no JSON"]),
]


@pytest.mark.parametrize(("row", "says"), WRONG)
def test_what_is_wrong_is_said_with_line_and_field(folder: Path, row: Any, says: list[str]) -> None:
    found = problems_of(write(folder, row))
    assert len(found) == len(says)
    assert all(line.startswith(start) for line, start in zip(found, says, strict=True)), found


TABLES = {
    "commas": b"id,audio,engine\na,tune.flac,draft\n",
    "semicolons": b"id;audio;engine\na;tune.flac;draft\n",
    "tabs, and spaces around": b"id\t audio \tengine\na \ttune.flac\tdraft\n",
    "as a spreadsheet saves it": b"\xef\xbb\xbfid,audio,engine,\r\n\r\na,tune.flac,draft,\r\n,,,\r\n",
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_tables_as_people_have_them(folder: Path, table: bytes) -> None:
    path = folder / "rows.csv"
    path.write_bytes(table)
    (row,) = rows_of(path)
    assert (row.id, row.request.audio, row.request.engine) == ("a", folder / "tune.flac", EngineName.DRAFT)


REFUSED = [
    ("rows.csv", b"id,audio,Engine,foo\na,x,,\n", "line 1: wrong columns: Engine: there is no such field: is engine"),
    ("rows.csv", b"id,audio,id\na,x,b\n", "line 1: wrong columns: id: it is there twice"),
    ("rows.csv", b"audio,crf,output.crf\nx,1,1\n", "output.crf: crf is another name of it"),
    ("rows.csv", b'id,audio\na,tune.flac\nb,"x\nc,x\n', "line 3: a quotation mark is opened and never closed"),
    ("rows.csv", b"id,audio\na,tune.flac\nb,caf\xe9.flac\n", "line 3: this is not UTF-8"),
    ("rows.jsonl", b'{"audio": "caf\xe9.flac"}\n', "line 1: this is not UTF-8"),
    ("rows.jsonl", b'[\n {"audio": "tune.flac"}\n]\n', "line 1: this begins a document of several lines"),
    ("rows.csv", b"", "empty file"),
]


@pytest.mark.parametrize(("name", "text", "says"), REFUSED)
def test_what_is_wrong_with_all_rows_is_told_once(folder: Path, name: str, text: bytes, says: str) -> None:
    path = folder / name
    path.write_bytes(text)
    with pytest.raises(InputError) as refused:
        list(read_manifest(path))
    assert says in str(refused.value)


def test_a_row_of_a_table_with_too_many_cells_is_told_why(folder: Path) -> None:
    path = folder / "rows.csv"
    path.write_text("id,audio\na,tune.flac,x\nb,tune.flac,\n")
    assert problems_of(path) == ["line 2: it has 3 cells, the heading 2: put a text with commas into quotes"]


def test_ids_are_compared_with_those_of_rows_that_are_wrong_otherwise(folder: Path) -> None:
    path = write(folder, {"id": "a", "audio": "no.flac"}, {"id": "a", "audio": "tune.flac"})
    assert [problem[:10] for problem in problems_of(path)] == ["line 1, au", "line 2, id"]
    path = write(folder, {"audio": "tune.flac"}, {"audio": "tune.flac"})
    assert problems_of(path)[0].endswith("is the id of line 1, too: the rows are alike")


def test_ids_that_some_file_systems_take_for_one_are_refused(folder: Path) -> None:
    path = write(folder, {"id": "Song", "audio": "tune.flac"}, {"id": "song", "audio": "tune.flac", "seed": 1})
    assert problems_of(path) == ["line 2, id: 'song' is the id of line 1, too"]


def test_every_bad_row_is_told_and_nothing_is_begun(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(folder, {"id": "a", "audio": "tune.flac"}, {"id": "b"}, "nonsense", {"id": "d", "audio": "no.flac"})
    done = run_here(capsys, "batch", path, "--output-dir", folder / "out")
    assert done.code == 2
    told = [line[:8] for line in done.err.splitlines()]
    assert told[1:] == ["  line 2", "  line 3", "  line 4"], "each in a line of its own"
    assert not (folder / "out").exists()


def test_a_single_mistake_is_told_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run_here(capsys, "batch", write(folder, {"id": "b"}))
    (line,) = done.err.splitlines()
    assert line.endswith(
        ", line 1, audio: expected the file of the sound, or a storyboard (--skip-bad leaves this row out)"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--set", "crf"], "expected FIELD=VALUE"),
        (["--set", "crf=bad"], "--set 'crf=bad': crf is 'bad'"),
        (["--set", "stepz=4"], "is steps meant?"),
        (["--tries", "0"], "--tries is 0"),
        (["--price", "-1", "--dry-run"], "--price is -1: expected 0 or more"),
        (["--price", "2"], "--price is for --dry-run"),
        (["--cpus", "2", "--address", "auto"], "--cpus is of this machine alone"),
    ],
)
def test_options_that_cannot_be(folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    done = run_here(capsys, "batch", write(folder, {"audio": "tune.flac"}), *words)
    assert (done.code, says in done.err) == (2, True), done.err


def test_a_manifest_of_another_kind_and_one_without_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ".jsonl or .csv" in run_here(capsys, "batch", write(folder, {"audio": "tune.flac"}, name="rows.txt")).err
    (folder / "rows.jsonl").write_text("\n")
    assert "has no rows" in run_here(capsys, "batch", folder / "rows.jsonl").err


def test_a_dry_run_tells_what_it_would_take_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"audio": "tune.flac", "engine": "draft", "width": 64, "height": 64, "frames": 9}
    path = write(folder, small | {"id": "a"}, small | {"id": "b", "frames": 17}, {"id": "c"})
    words = ("--output-dir", folder / "out", "--dry-run", "--price", "2.5", "--skip-bad", "--json")
    done = run_here(capsys, "batch", path, *words, "--progress", "json")
    plan = json.loads(done.out)
    assert [event["says"] for event in done.events] == [
        "left out: line 3, audio: expected the file of the sound, or a storyboard"
    ]
    assert (plan["rows"], plan["bad"], plan["frames"], plan["cost"]) == (3, 1, 26, 0.0)
    assert [row["frames"] for row in plan["plan"]] == [9, 17]
    assert not (folder / "out").exists()


def test_without_ray_the_command_that_installs_it_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    path = write(folder, {"id": "a", "audio": "tune.flac", "engine": "draft"})
    done = run_here(capsys, "batch", path, "--output-dir", folder / "out")
    assert (done.code, "pip install '.[batch]'" in done.err) == (5, True)


def test_rows_of_one_model_come_together_and_one_given_back_comes_first(folder: Path) -> None:
    plain = {"audio": "tune.flac"}
    path = write(
        folder,
        *[plain | {"id": f"d{k}", "engine": "draft", "seed": k} for k in range(2)],
        *[plain | {"id": f"n{k}", "engine": "native", "seed": k} for k in range(3)],
        plain | {"id": "d2", "engine": "draft", "seed": 2},
    )
    with Rows() as rows:
        for row in rows_of(path):
            rows.add(row)
        first = rows.take()
        assert first is not None
        group = group_of(first)
        rows.give_back(first)
        order = [row.id for _ in range(6) if (row := rows.take(last=group)) is not None]
        assert rows.take() is None
    assert order[0] == first.id
    assert [name[0] for name in order] in (["d"] * 3 + ["n"] * 3, ["n"] * 3 + ["d"] * 3)


def test_gpu_rows_wait_for_gpus_and_drafts_do_not(folder: Path) -> None:
    path = write(folder, {"id": "d", "audio": "tune.flac", "engine": "draft"}, {"id": "n", "audio": "tune.flac"})
    with Rows() as rows:
        for row in rows_of(path):
            rows.add(row)
        on_cpu, on_gpu = rows.take(on_gpu=False), rows.take(on_gpu=True)
    assert on_cpu is not None
    assert on_gpu is not None
    assert (on_cpu.id, on_gpu.id) == ("d", "n")


def test_results_survive_a_line_that_was_cut_off_and_know_what_is_done(folder: Path) -> None:
    (row,) = rows_of(write(folder, {"id": "a", "audio": "tune.flac"}))
    video = folder / "a.mp4"
    video.write_bytes(b"12345")
    with Results(folder) as results:
        results.open(())
        results.add(RowResult(id="a", line=1, state=MADE, asked=asked_of(row), path=str(video), bytes=5))
    (folder / "results.jsonl").write_text((folder / "results.jsonl").read_text() + '{"id": "b", "st')
    noted = Results(folder).done()
    assert is_done(row, video, noted)
    (other,) = rows_of(write(folder, {"id": "a", "audio": "tune.flac", "seed": 7}))
    assert not is_done(other, video, noted)
    video.write_bytes(b"1234")
    assert not is_done(row, video, noted)
    with Results(folder) as results:
        results.open({"a"})
    assert (folder / "results.jsonl").read_text() == ""


class TestNodes:
    """What is asked of every node before the first row."""

    def test_one_that_does_not_see_the_output_folder(self, tmp_path: Path) -> None:
        token = tmp_path / "seen"
        token.write_text("secret")
        assert look(token, "secret").problem == ""
        blind = [look(tmp_path / "not here" / "seen", "secret"), look(token, "another")]
        assert all(about.problem for about in blind)
        with pytest.raises(InputError, match="all nodes see"):
            refuse_unfit(blind)

    def test_one_of_another_version(self) -> None:
        other = About(host="old", version="soundreel 0.1.0, Python 3.11.1")
        with pytest.raises(EngineError, match=r"old has soundreel 0\.1\.0.*install the same"):
            refuse_unfit([other, About(host="here", version=VERSIONS)])


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_a_cluster_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str], address: str) -> None:
    pytest.importorskip("ray", reason="the packages of soundreel[batch] are not here")
    path = write(folder, {"id": "a", "audio": "tune.flac", "engine": "draft"})
    before = files_below(folder)
    done = run_here(capsys, "batch", path, "--output-dir", folder / "new" / "out", "--address", address)
    assert (done.code, f"{address!r}" in done.err, "no Ray cluster" in done.err) == (5, True, True)
    assert files_below(folder) == before
    (folder / "mine").mkdir()
    run_here(capsys, "batch", path, "--output-dir", folder / "mine", "--address", address)
    assert files_below(folder / "mine") == []
    assert (folder / "mine").is_dir()


class TestConnecting:
    """What is made of Ray's refusals; a Ray in its place answers at once."""

    MISMATCH = "Version mismatch: The cluster was started with:\n  Ray: 2.60.0\n  Python: 3.11.7\nThis process on x was"
    MISMATCH += " started with:\n  Ray: 2.40.0\n  Python: 3.12.1\n"
    SAYS = (
        (MISMATCH, "it has Ray 2.60.0 and Python 3.11.7, here are Ray 2.40.0 and Python 3.12.1; install the same"),
        ("RPC error: InvalidAuthToken: Authentication token is missing", "set RAY_AUTH_MODE=token, and copy"),
        ("Failed to connect\nto Ray", "(Failed to connect): is `ray start --head` running there"),
    )

    @pytest.fixture(autouse=True)
    def somebody_listens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cluster, "_check_reachable", lambda _: None)

    @pytest.mark.parametrize(("error", "says"), SAYS)
    def test_a_refusal_is_one_line_and_nothing_of_rays_is_seen(
        self, capfd: pytest.CaptureFixture[str], error: str, says: str
    ) -> None:
        def init(**_: Any) -> None:
            os.write(2, b"[W] gcs_client.cc:210: Failed to get cluster ID\n")
            raise ConnectionError("Failed to connect") from RuntimeError(error)

        ray = SimpleNamespace(init=init, shutdown=lambda: None)
        with pytest.raises(EngineError) as refused, cluster.opened(ray, "head:6379"):
            pass
        assert says in str(refused.value)
        assert "\n" not in str(refused.value)
        assert capfd.readouterr().err == ""

    def test_what_did_not_come_up_is_asked_for_once_more(self) -> None:
        answers = [ConnectionError(cluster.NOT_STARTED), None]

        def init(**_: Any) -> None:
            if (error := answers.pop(0)) is not None:
                raise error

        with cluster.opened(SimpleNamespace(init=init, shutdown=lambda: None), "ray://head:10001"):
            assert answers == []
