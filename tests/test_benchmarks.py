"""Benchmarks of the native engine run on sizes that a CPU has time for: their tables are whole."""

import multiprocessing
import re
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

from benchmarks import commands, computed_gpus, floors, full_size, gpu, gpu_memory, lossy_modes, several_gpus

from command import REPO
from soundreel.engines.native.links import NVLINK
from weight_files import GOLDEN, needs_golden

SECOND_RENDER = "second render in one process → first step done"
HANGS_SECONDS = 60


def test_every_mode_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["--tiny", "--device", "cpu", "--repeat", "1", "--no-vae", "--modes", "plain", "exact", "fp8"])
    table = capsys.readouterr().out
    exact = re.search(r"^exact +64x64 +\d+ +\d+ +0\.0 +(\S+) +\d+%$", table, re.MULTILINE)
    assert exact is not None
    assert float(exact[1]) < 1e-4
    assert "--precision fp8 needs a GPU" in table, "a mode that does not run is a row, not the table's end"
    assert re.search(r"^sdpa +300 ", table, re.MULTILINE)


def test_every_part_of_a_pass_has_its_floor(capsys: pytest.CaptureFixture[str]) -> None:
    floors.main(["--tiny", "--device", "cpu", "--modes", "exact", "--repeat", "0", "--calls"])
    told = capsys.readouterr().out
    calls = {
        part: int(count)
        for part, count in re.findall(r"^(\w+) +(\d+) +[\d.]+ +[\d.]+ +[\d.]+ +\d+ ", told, re.MULTILINE)
    }
    assert set(calls) == {*floors.Part}
    assert (calls["attention"], calls["text"]) == (4, 4), "one in each block"
    assert calls["sound"] == 2 * 4, "norm, two products, attention in each of two blocks"
    assert re.search(r"^what is left +-?[\d.]+$", told, re.MULTILINE)


def test_a_memory_mode_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    gpu_memory.main(["--tiny", "--steps", "3", "--modes", "12gb"])
    table = capsys.readouterr().out
    assert re.search(r"^12gb +\d+", table, re.MULTILINE)


def test_a_command_is_followed_by_its_events(tmp_path: Path) -> None:
    sound, _ = commands.write_inputs(tmp_path, 1.0)
    words = f"{sound} --engine draft --size 64x64 --frames 8 --infer-frames 4 --progress json -o {tmp_path / 'a.mp4'}"
    command, log = [sys.executable, "-m", "soundreel", *words.split()], tmp_path / "log"
    status, events, seconds = commands.run_command(command, log, 300)
    assert (status, log.read_text()) == (0, f"{tmp_path / 'a.mp4'}\n")
    told = commands.timings(events, seconds)
    assert 0 < told["until_start"] < told["total"]
    assert set(told["step"]) == {1, 2, 3}
    status, _, _ = commands.run_command([*command, "--width", "65"], log, 300)
    assert (status, "width is 65" in log.read_text()) == (2, True)
    status, events, _ = commands.run_command(command, log, 300, lambda event: event["event"] == "start")
    assert (status, events[0]["event"]) == (-9, "start")


def test_two_processes_are_compared_with_one_and_end(capfd: pytest.CaptureFixture[str]) -> None:
    several_gpus.main(["--tiny", "--device", "cpu", "--repeat", "1", "--modes", "exact", "--pictures"])
    told = capfd.readouterr().out
    for how in ("guidance apart", "tokens alone"):
        found = re.search(rf"exact 64x64: {how} \S+ s per \w+, \S+ ×; error (\S+)$", told, re.MULTILINE)
        assert found is not None
        assert float(found[1]) < 1e-5
    assert "communication that nothing hides" in told
    assert re.search(r"pictures 64x64: decode and encode \S+ ×$", told, re.MULTILINE)
    for part in ("alone, nothing kept", "in a new room", "the window's stages", "waiting for the others"):
        assert re.search(rf"pictures decode 64x64: .*{part}: [\d.]+, [\d.]+ s$", told, re.MULTILINE), part
    assert told.rstrip().endswith("done")


ENDS: dict[str, tuple[str, bool]] = {
    "with status 1, which comes late": ("import os, time; os.closerange(3, 256); time.sleep(1); os._exit(1)", False),
    "well, and its status comes late": ("import os, time; os.closerange(3, 256); time.sleep(1); os._exit(0)", True),
    "with an error": ("raise FileNotFoundError", False),
}
"""A process that closes what it had open, as the system does for it while a GPU is given back, has ended for those who
wait for its sentinel."""


@pytest.mark.parametrize("how", ENDS)
def test_a_process_that_ends_ends_all_however_late_its_status_comes(how: str) -> None:
    code, is_well = ENDS[how]
    context = multiprocessing.get_context("spawn")
    waits = "import signal; signal.pause()"  # as one that waits for a message of the one that ended
    processes = [
        context.Process(target=exec, args=(each,), daemon=True) for each in (code, "pass" if is_well else waits)
    ]
    begun = time.monotonic()
    for one in processes:
        one.start()
    try:
        assert several_gpus.all_end_well(processes, begun + HANGS_SECONDS) == is_well
        assert time.monotonic() < begun + HANGS_SECONDS, "it was not the limit that ended it"
    finally:
        for one in processes:
            one.kill()
            one.join()


@pytest.mark.parametrize("float8", [False, True])
@pytest.mark.parametrize("size", ["480x832", "832x1216"])
def test_the_page_has_what_is_computed_of_gpus_that_were_not_at_hand(size: str, float8: bool) -> None:
    way, planned = computed_gpus.h200(float8=float8), computed_gpus.planned(size)
    one, two, four, eight = (
        computed_gpus.row(way, planned, guidance, tokens, NVLINK)[2]
        for guidance, tokens in ((1, 1), (2, 1), (2, 2), (2, 4))
    )
    page = (REPO / "docs" / "several_gpus.md").read_text(encoding="utf-8")
    cells = f"| {one:.0f} s | {two:.0f} s | {four:.0f} s, {one / four:.2f} × | {eight:.0f} s, {one / eight:.2f} × |"
    assert f"| {size.replace('x', '×')} {cells}" in page


@pytest.mark.long
@needs_golden
def test_dials_have_rows(capsys: pytest.CaptureFixture[str]) -> None:
    models, sound = str(GOLDEN / "tiny_official"), str(GOLDEN / "inputs" / "speech_2s.wav")
    lossy_modes.main(["--models", models, "--audio", sound, "--device", "cpu", "--steps", "5", "--frames", "5"])
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row[:28].strip() for row in rows] == list(lossy_modes.MODES)
    told = {row[:28].strip(): row[28:].split() for row in rows if "not here" not in row}
    assert len(told) >= len(rows) - 4  # a CPU has neither cuDNN nor float8
    assert told["exact"][-2:] == ["equal", "1.000"]
    assert all(int(figures[0]) + int(figures[1]) == 10 for figures in told.values())
    assert int(told["cache 0.8"][0]) < 10


def test_what_a_user_waits_for_is_read_from_events() -> None:
    loads = [{"event": "progress", "stage": "load", "what": "transformer", "at": at} for at in (3.0, 9.0)]
    steps = [
        {"event": "progress", "stage": "render", "clip": clip, "step": step, "at": at}
        for clip, step, at in ((1, 1, 12.0), (1, 2, 14.0), (1, 3, 16.0), (2, 1, 19.5), (2, 2, 21.5))
    ]
    events = [{"event": "start", "at": 2.0}, *loads, *steps, {"event": "result", "at": 24.0}]
    seconds = commands.timings(events, 25.0)
    assert (seconds["until_start"], seconds["first_step"], seconds["after_last_step"]) == (2.0, 12.0, 2.5)
    assert seconds["load"] == {"transformer": (3.0, 9.0)}
    assert seconds["between_clips"] == [1.5]
    assert full_size.waits({"seconds": seconds}, [{"seconds": seconds}], {})["last step → file"] == "2.50"
    line = {"event": "left", "allocated": 0, "reserved": 2, "used": 15}
    assert full_size.session_memory(line, 10) == {"allocated": 0, "reserved": 2, "process": 5}


@needs_golden
@pytest.mark.long
def test_what_a_user_waits_for_has_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = GOLDEN / "tiny_official"
    sizes = ["--size", "64x64", "--frames", "9", "--infer-frames", "8", "--steps", "2"]
    places = ["--folder", str(tmp_path / "s2v"), "--results", str(tmp_path / "results")]
    given = ["--manifest", str(models), "--tokenizer", str(models / "google" / "umt5-xxl")]
    full_size.main([*given, *places, *sizes])
    told = capsys.readouterr().out
    for name in set(full_size.GOALS) - {SECOND_RENDER}:
        assert re.search(rf"^\| {re.escape(name)} \| [^|]* \| \d+\.\d\d", told, re.MULTILINE), name
    assert re.search(rf"^\| {SECOND_RENDER} \| [^|]* \| (\d+\.\d\d|–)", told, re.MULTILINE)
    assert "| frames in the video / asked for | 9 / 9 |" in told
    assert "| GPU memory, session left | " in told
