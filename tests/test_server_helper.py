"""The process that looks into files of strangers: it ends with the one that asks it, whatever it is doing."""

import subprocess
import sys

import pytest

from command import HANGS_SECONDS
from serving import wait_for
from soundreel.disk.processes import start_of
from soundreel.errors import MediaError
from soundreel.server import helper as helpers
from soundreel.server.helper import Helper

ASKS = """
import threading, time
from soundreel.server.helper import Helper
helper = Helper(is_limited=False)
ask = lambda: helper.ask("sleep", 3600, seconds=3600, module="time")
threading.Thread(target=ask, daemon=True).start()
while helper._process is None: time.sleep(0.01)
print(helper._process.pid, flush=True)
time.sleep(3600)
"""


def test_it_ends_in_the_middle_of_a_question_when_who_asked_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", ASKS], stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout is not None
        helper = int(asking.stdout.readline())
        assert start_of(helper) is not None
        asking.kill()
        asking.wait(HANGS_SECONDS)
    wait_for(lambda: start_of(helper) is None)


def test_once_it_is_closed_none_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is opened while the server ends has its helpers get ready."""
    helper = Helper()
    helper.close()
    monkeypatch.setattr(helpers, "ChildProcess", None)
    helper.get_ready()
    with pytest.raises(MediaError, match="the server ends"):
        helper.ask("ready", seconds=1)
