"""Moments of a command: the same on an idle machine and on a busy one, since no clock has a part in them.

    python moments.py MARKS SIGNAL WHEN WORDS …    runs `soundreel WORDS …`

The process sends itself SIGNAL WHEN a module is imported that is named so, when as many calls of functions were made in
all its threads, when a function is first called that is named so, or at the worst moment, `lock`: where it begins to
wait for a thread and has acquired the lock of the event that the thread is to set. Calls count once all is imported. At
each call that begins a stage, its count and the stage are written to the file MARKS.
"""

import os
import random
import runpy
import sys
import threading
from collections.abc import Callable, Collection
from itertools import count, pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, TextIO

STAGES: Final = {
    ("pipeline.py", "prepare"): "check",
    ("driving_sound.py", "DrivingSound.features"): "analyse",
    ("engine.py", "_draw_clip"): "draw",
    ("load.py", "load_component"): "load weights",
    ("clips.py", "ClipSampler.sample"): "sample",
    ("negatives.py", "NegativeStore.keep"): "keep latents",
    ("clips.py", "ClipDecoder.decode"): "decode",
    ("clip_writer.py", "ClipWriter._write"): "post-process",
    ("motion.py", "compensate_motion"): "interpolate",
    ("video.py", "SegmentWriter.write"): "encode",
    ("pipeline.py", "_write"): "write",
    ("publish.py", "publish"): "publish",
    ("display.py", "Events.finish"): "end",
    ("signals.py", "ignore_signals"): "over",
}
"""(file, function) → the stage that begins with it."""

LOAD: Final = "load"
"""What comes before the first of them."""

DRAFT_STAGES: Final = (
    LOAD, "check", "analyse", "draw", "post-process", "interpolate", "encode", "write", "publish", "end",
)  # fmt: skip
NATIVE_STAGES: Final = (
    "check", "load weights", "sample", "keep latents", "decode", "post-process", "encode", "write", "publish",
)  # fmt: skip

LOADED: Final = ("typer", "soundreel.request", "soundreel.cli.options", "numpy", "av", "cv2", "soundreel.pipeline")
"""Modules that a draft's command imports, one after the other."""

Marks = list[tuple[int, str]]
"""(count, stage), in the order of the counts."""


def read_marks(path: Path) -> Marks:
    """What a run has written."""
    lines = [line.split(maxsplit=1) for line in path.read_text().splitlines()]
    return sorted((int(number), stage) for number, stage in lines)


def moment(marks: Marks, stage: str, chance: random.Random) -> str:
    """A random moment in a stage of a run with such marks."""
    if stage == LOAD:
        return chance.choice(LOADED)
    spans = [(begin, end) for (begin, name), (end, _) in pairwise(marks) if name == stage and end > begin]
    begin, end = chance.choices(spans, [end - begin for begin, end in spans])[0]
    return str(chance.randrange(begin, end))


def counting(stop: Callable[[], None], at: Collection[int], marks: TextIO) -> Callable[[FrameType, str, Any], None]:
    """A profile function that counts calls, notes stages, and stops at some counts."""
    calls = count(1)

    def hear(frame: FrameType, event: str, _: Any) -> None:
        if event not in {"call", "c_call"}:
            return
        now, code = next(calls), frame.f_code
        stage = STAGES.get((code.co_filename.rpartition(os.sep)[2], code.co_qualname)) if event == "call" else None
        if stage is not None:
            marks.write(f"{now} {stage}\n")
        if now in at:
            stop()

    return hear


def at_a_lock(stop: Callable[[], None]) -> Callable[[FrameType, str, Any], None]:
    """A profile function that stops once, between an event's lock being acquired and the block that gives it back."""

    def hear(frame: FrameType, event: str, _: Any) -> None:
        caller = frame.f_back
        if event == "return" and frame.f_code.co_qualname == "Condition.__enter__" and caller is not None:
            waiting = caller.f_back
            if caller.f_code.co_qualname == "Event.wait" and waiting is not None and in_futures(waiting.f_code):
                sys.setprofile(None)
                stop()

    return hear


def at_a_call(stop: Callable[[], None], name: str) -> Callable[[FrameType, str, Any], None]:
    """A profile function that stops once, where a function begins."""

    def hear(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_qualname == name:
            sys.setprofile(None)
            stop()

    return hear


def in_futures(code: CodeType) -> bool:
    """Whether it is the function that waits for threads of a pool."""
    return code.co_qualname == "wait" and Path(code.co_filename).parts[-2:] == ("futures", "_base.py")


def main(place: str, number: str, when: str, *words: str) -> None:
    """Run the command; `when` is a module, a function, `lock`, or counts with commas between them."""

    def stop() -> None:
        os.kill(os.getpid(), int(number))

    sys.argv = ["soundreel", *words]
    if when in LOADED:
        sys.addaudithook(lambda event, facts: stop() if (event, facts[0:1]) == ("import", (when,)) else None)
        runpy.run_module("soundreel", run_name="__main__", alter_sys=True)
        return
    __import__("soundreel.cli.display")
    __import__("soundreel.pipeline")
    for engine in {"draft", "native"} & set(words):
        __import__(f"soundreel.engines.{engine}")
    if when == "lock":
        sys.setprofile(at_a_lock(stop))
        runpy.run_module("soundreel", run_name="__main__", alter_sys=True)
    if not when[0].isdecimal():
        sys.setprofile(at_a_call(stop, when))
        runpy.run_module("soundreel", run_name="__main__", alter_sys=True)
    with Path(place).open("a", buffering=1) as marks:
        hear = counting(stop, set(map(int, when.split(","))), marks)
        threading.setprofile(hear)
        sys.setprofile(hear)
        runpy.run_module("soundreel", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
