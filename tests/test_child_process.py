"""Processes of our own beside this one: how they are stopped, and how that is told."""

import os
import signal
from pathlib import Path

import pytest

from soundreel.errors import Cancelled
from soundreel.render.child_process import ChildProcess, how_it_ended

CHILD = """
import os, signal
from soundreel.render.child_process import run

class Sender:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass

def main():
    run(serve)

def serve(pipe, stop):
    try:
        what = pipe.hear()
        if what == "be stopped where nothing can be raised":
            Sender()
        pipe.say(what)
        while True:
            stop.check()
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        pipe.say("tidied up")
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that children run."""
    (tmp_path / "stopped_child.py").write_text(CHILD)
    monkeypatch.syspath_prepend(tmp_path)
    return "stopped_child"


def test_a_signal_stops_it_and_a_second_one_does_not_break_what_it_tidies_up(program: str) -> None:
    child = ChildProcess(program)
    child.say("hello")
    assert child.hear() == "hello"
    os.kill(child.pid, signal.SIGTERM)
    assert child.hear() == "tidied up"
    with pytest.raises(EOFError):
        child.hear()
    assert child.wait() == Cancelled.exit_code


def test_a_signal_that_comes_while_an_object_is_taken_down_is_not_lost(
    program: str, capfd: pytest.CaptureFixture[str]
) -> None:
    child = ChildProcess(program)
    child.say("be stopped where nothing can be raised")
    assert child.hear() == "be stopped where nothing can be raised"
    assert child.hear() == "tidied up"
    assert child.wait() == Cancelled.exit_code
    assert capfd.readouterr().err == ""
    with pytest.raises(EOFError):
        child.hear()


def test_it_is_said_how_one_has_ended(program: str) -> None:
    child = ChildProcess(program)
    child.kill()
    assert how_it_ended(child.wait()) == "was ended by SIGKILL (the system does so where memory runs out)"
    assert not child.say("hello")
    with pytest.raises(EOFError):
        child.hear()
    assert how_it_ended(3) == "ended with status 3"
