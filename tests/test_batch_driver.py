"""How a driver hands out rows, with actors that answer at once in place of Ray's."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import EXAMPLES
from event_schema import OF_A_BATCH, kinds_of
from soundreel.batch import driver
from soundreel.batch.actors import VERSIONS, About, HandedBack, Outcome
from soundreel.batch.cluster import Actor
from soundreel.batch.driver import Driver, Listener, Standing
from soundreel.batch.manifest import Row, Work, read_manifest
from soundreel.batch.results import FAILED, MADE, Results, RowResult
from soundreel.batch.rows import Rows
from soundreel.cli.batch_display import BatchEvents, BatchTable, Totals
from terminal import shown


class LostError(Exception):
    """As Ray says that an actor has died."""


class Ref:
    """What an actor has answered."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer


def get(ref: Ref) -> Any:
    if isinstance(ref.answer, Exception):
        raise ref.answer
    return ref.answer


def wait(refs: Sequence[Ref], **_: Any) -> tuple[list[Ref], list[Ref]]:
    return list(refs[:1]), list(refs[1:])


Answer = Callable[[str, Row, int], Outcome | HandedBack | Exception]
"""What an actor, by its host, makes of a row at a try."""


class FakeCluster:
    """One actor on each host; those called gpu… have one."""

    ray = SimpleNamespace(get=get, wait=wait, exceptions=SimpleNamespace(RayError=LostError, RayTaskError=KeyError))

    def __init__(self, answer: Answer, hosts: Sequence[About]) -> None:
        self._answer, self._hosts = answer, hosts
        self._started: list[About] = []
        self.handed: list[tuple[str, str, Work, bool]] = []  # host, row, what is left to do of it, is it to be left

    @property
    def has_gpus(self) -> bool:
        return self.actors_wanted(on_gpu=True) > 0

    def actors_wanted(self, *, on_gpu: bool) -> int:
        return sum(about.host.startswith("gpu") is on_gpu for about in self._hosts)

    def start(self, *, on_gpu: bool) -> Actor:
        free = (about for about in self._hosts if about not in self._started)
        about = next(about for about in free if about.host.startswith("gpu") is on_gpu)
        self._started.append(about)

        def render(row: Row, tries: int, hands_on: bool) -> Ref:
            self.handed.append((about.host, row.id, row.work, hands_on))
            return Ref(self._answer(about.host, row, tries))

        state = SimpleNamespace(remote=lambda: Ref(LostError("busy")))
        handle = SimpleNamespace(render=SimpleNamespace(remote=render), state=state)
        return Actor(handle, on_gpu=on_gpu, number=len(self._started))

    def ask_about(self, actor: Actor) -> Ref:
        return Ref(self._started[actor.number - 1])


class Heard:
    """What a listener was told."""

    def __init__(self) -> None:
        self.rows: dict[str, RowResult] = {}
        self.remarks: list[str] = []

    def row(self, result: RowResult) -> None:
        assert result.id not in self.rows
        self.rows[result.id] = result

    def standing(self, standing: Any) -> None:
        pass

    def remark(self, says: str) -> None:
        self.remarks.append(says)


def host(name: str, **fields: str) -> About:
    return About(**{"host": name, "version": VERSIONS, "device": "cpu"} | fields)


def outcome(row: Row, tries: int, state: str = MADE, seconds: float | None = None, **fields: Any) -> Outcome:
    code = 5 if state == FAILED else 0
    facts: dict[str, Any] = {"id": row.id, "line": row.line, "asked": "", "tries": tries, "seconds": seconds}
    result = RowResult(**facts, state=state, exit_code=code, reason="why")
    return Outcome(result=result, **fields)


def drive(folder: Path, answer: Answer, *hosts: About) -> tuple[Heard, Driver]:
    """Let six rows be rendered, three tries each."""
    heard = Heard()
    done = drive_for(heard, folder, answer, *hosts)
    written = [json.loads(line)["id"] for line in (folder / "results.jsonl").read_text().splitlines()]
    assert sorted(written) == sorted(heard.rows) == [f"r{k}" for k in range(6)]
    return heard, done


def drive_for(listener: Listener, folder: Path, answer: Answer, *hosts: About) -> Driver:
    """The same, with a listener of the test's own."""
    return drive_rows(listener, folder, rows_of(folder, [{}] * 6), FakeCluster(answer, hosts))


def rows_of(folder: Path, says: Sequence[dict[str, Any]]) -> list[Row]:
    """Drafts r0, r1, …, unless a row says otherwise."""
    path = folder / "rows.jsonl"
    plain = {"audio": str(EXAMPLES / "tune.flac"), "engine": "draft"}
    path.write_text("".join(json.dumps(plain | {"id": f"r{k}", "seed": k} | own) + "\n" for k, own in enumerate(says)))
    found = list(read_manifest(path))
    assert all(isinstance(row, Row) for row in found), found
    return [row for row in found if isinstance(row, Row)]


def drive_rows(listener: Listener, folder: Path, what: Sequence[Row], cluster: Any) -> Driver:
    """Let rows be rendered, three tries each."""
    with Rows() as rows, Results(folder) as results:
        for row in what:
            rows.add(row)
        results.open(())
        done = Driver(cluster, rows, results, listener, tries=3)
        done.run(total=len(what), done=0)
    return done


def test_a_row_that_kills_its_actors_fails_after_its_tries_and_the_others_go_on(tmp_path: Path) -> None:
    tries: list[int] = []

    def answer(_: str, row: Row, number: int) -> Outcome | Exception:
        if row.id != "r2":
            return outcome(row, number)
        tries.append(number)
        return LostError("the worker died")

    heard, done = drive(tmp_path, answer, host("a"), host("b"))
    assert tries == [1, 2, 3]
    assert (heard.rows["r2"].state, heard.rows["r2"].tries) == (FAILED, 3)
    assert "the worker died" in (heard.rows["r2"].reason or "")
    assert {result.state for name, result in heard.rows.items() if name != "r2"} == {MADE}
    assert done.first_failure == 5


def test_what_would_come_again_is_not_tried_again(tmp_path: Path) -> None:
    heard, _ = drive(tmp_path, lambda _, row, number: outcome(row, number, FAILED), host("a"))
    assert {result.tries for result in heard.rows.values()} == {1}


def test_a_machine_whose_disk_is_full_takes_no_more_rows_and_others_take_them(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(name: str, row: Row, number: int) -> Outcome:
        asked.append(name)
        is_full = name == "full"
        return outcome(row, number, FAILED if is_full else MADE, may_try_again=is_full, is_full=is_full)

    heard, done = drive(tmp_path, answer, host("full"), host("free"))
    assert asked.count("full") == 1
    assert {result.state for result in heard.rows.values()} == {MADE}
    assert len(heard.remarks) == 1
    assert "full" in heard.remarks[0]
    assert done.first_failure == 0


@pytest.mark.parametrize("fields", [{"version": "soundreel 0.1.0"}, {"problem": "does not see '/out'"}])
def test_a_node_that_comes_later_is_looked_at_like_the_first(tmp_path: Path, fields: dict[str, str]) -> None:
    asked: list[str] = []

    def answer(name: str, row: Row, number: int) -> Outcome:
        asked.append(name)
        return outcome(row, number)

    heard, _ = drive(tmp_path, answer, host("odd", **fields), host("right"))
    assert set(asked) == {"right"}
    assert next(iter(fields.values())) in heard.remarks[0]


def test_where_no_machine_is_right_every_row_fails_with_the_reason(tmp_path: Path) -> None:
    heard, done = drive(
        tmp_path, lambda _, row, number: outcome(row, number), host("odd", problem="does not see '/out'")
    )
    assert {(result.state, result.reason) for result in heard.rows.values()} == {(FAILED, "does not see '/out'")}
    assert done.first_failure == 5


def test_all_that_programs_are_told_is_as_the_schema_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(name: str, row: Row, number: int) -> Outcome:
        is_full = name == "full"
        state = FAILED if is_full or row.id == "r3" else MADE
        return outcome(row, number, state, may_try_again=is_full, is_full=is_full)

    monkeypatch.setattr(driver, "LOOK_SECONDS", 0.0)
    hosts = host("full"), host("free"), host("free, too")
    with BatchEvents(names_paths=False) as shown:
        shown.begin(Totals(total=6, done=0, bad=0), hosts)
        drive_for(shown, tmp_path, answer, *hosts)
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert kinds_of(told) == OF_A_BATCH
    assert {event["state"] for event in told if event["event"] == "row"} == {MADE, FAILED}
    assert any(event["under_way"] for event in told if event["event"] == "standing")
    assert told[-1] == told[-1] | {"event": "end", "made": 5, "failed": 1}


class Terminal(StringIO):
    """Standard output and standard error."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [80, 40])
def test_on_a_terminal_lines_and_paths_stay_above_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    terminal = Terminal()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    long = "a rather long name of a song, as people have them"
    with BatchTable(names_paths=True) as table:
        table.begin(Totals(total=4, done=0, bad=0), [host("here")])
        for done, name in enumerate(["one", long]):
            under_way = {"here cpu #1": (name, 0.5), "here cuda:0 #2": ("two", None)}
            facts: dict[str, Any] = {"total": 4, "done": done, "failed": 0, "frames": 80 * done, "left_seconds": 3.0}
            table.standing(Standing(**facts, under_way=under_way, seconds=10.0 * (done + 1)))
            before = shown(terminal.getvalue(), columns)
            result = {"id": name, "line": 1, "asked": "", "path": f"/out/{name}.mp4", "seconds": 5.0}
            table.row(RowResult(**result, state=MADE, host="here", device="cpu", tries=1))
    rows = [line for line in before if line.startswith("here c")]
    assert len(rows) == 2, "a line for each device, however narrow it is"
    assert rows[0].endswith("50 %")
    assert ("…" in rows[0]) == (columns == 40)
    lines = shown(terminal.getvalue(), columns)
    text = "".join(lines).replace(" ", "")
    told = [f"{name}: made in 5.0 s on here cpu/out/{name}.mp4" for name in ("one", long)]
    assert text == "".join(["batch: 4 rows on 1 machine", *told, "batch: 2 of 4 videos are there"]).replace(" ", "")


class TestWhoTakesWhat:
    """A machine with a GPU, and one without."""

    def test_drafts_and_prints_are_not_for_gpus_that_have_rows_to_sample(self, tmp_path: Path) -> None:
        drafts = rows_of(tmp_path, [{}, {}, *[{"engine": "native", "device": "auto"}] * 4])
        rows = [*drafts[:4], *(replace(row, work=Work.PRINT) for row in drafts[4:])]
        cluster = FakeCluster(lambda _, row, number: outcome(row, number), [host("gpu"), host("other")])
        drive_rows(Heard(), tmp_path, rows, cluster)
        takers = {row: name for name, row, *_ in cluster.handed}
        assert {takers["r2"], takers["r3"]} == {"gpu"}
        assert {takers["r0"], takers["r1"]} == {"other"}
        assert [row for name, row, *_ in cluster.handed if name == "gpu"][:2] == ["r2", "r3"]

    def test_a_gpu_that_has_nothing_else_to_do_prints(self, tmp_path: Path) -> None:
        rows = [replace(row, work=Work.PRINT) for row in rows_of(tmp_path, [{"engine": "native"}] * 3)]
        cluster = FakeCluster(lambda _, row, number: outcome(row, number), [host("gpu"), host("other")])
        drive_rows(Heard(), tmp_path, rows, cluster)
        assert {name for name, *_ in cluster.handed} == {"gpu", "other"}

    def test_a_row_that_cannot_be_printed_goes_to_a_gpu_and_that_is_no_try(self, tmp_path: Path) -> None:
        def answer(_: str, row: Row, number: int) -> Outcome | HandedBack:
            whole = replace(row, work=Work.WHOLE)
            return HandedBack(row=whole, seconds=0.1) if row.work is Work.PRINT else outcome(row, number)

        heard = Heard()
        (row,) = rows_of(tmp_path, [{"engine": "native"}])
        cluster = FakeCluster(answer, [host("gpu"), host("other")])
        drive_rows(heard, tmp_path, [replace(row, work=Work.PRINT)], cluster)
        assert [work for _, _, work, _ in cluster.handed] == [Work.PRINT, Work.WHOLE]
        assert cluster.handed[1][0] == "gpu"
        assert (heard.rows["r0"].state, heard.rows["r0"].tries) == (MADE, 1)

    def test_gpus_leave_scores_to_others_as_long_as_they_have_something_to_sample(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def answer(_: str, row: Row, number: int) -> Outcome | HandedBack:
            back = HandedBack(row=replace(row, work=Work.PRINT), seconds=2.0)
            return back if row.work is Work.ANY else outcome(row, number, seconds=1.0)

        monkeypatch.setattr(driver, "LOOK_SECONDS", 0.0)
        heard = Heard()
        rows = rows_of(tmp_path, [{"engine": "native", "score": True}] * 4)
        cluster = FakeCluster(answer, [host("gpu"), host("other")])
        drive_rows(heard, tmp_path, rows, cluster)
        on_gpu = [(work, is_left) for name, _, work, is_left in cluster.handed if name == "gpu"]
        assert on_gpu[:4] == [(Work.ANY, True)] * 4
        assert {(work, is_left) for name, _, work, is_left in cluster.handed if name == "other"} == {
            (Work.PRINT, False)
        }
        assert [result.seconds for result in heard.rows.values()] == [3.0] * 4

    def test_scores_are_left_to_nobody_where_nobody_is_there_for_them(self, tmp_path: Path) -> None:
        rows = rows_of(tmp_path, [{"engine": "native", "score": True}])
        cluster = FakeCluster(lambda _, row, number: outcome(row, number), [host("gpu")])
        drive_rows(Heard(), tmp_path, rows, cluster)
        assert cluster.handed == [("gpu", "r0", Work.ANY, False)]

    def test_where_no_cpu_is_left_gpus_take_all(self, tmp_path: Path) -> None:
        cluster = FakeCluster(lambda _, row, number: outcome(row, number), [host("gpu")])
        drive_rows(Heard(), tmp_path, rows_of(tmp_path, [{}, {"engine": "native"}]), cluster)
        assert {row for _, row, *_ in cluster.handed} == {"r0", "r1"}
