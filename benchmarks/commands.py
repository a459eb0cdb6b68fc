"""Whole commands as a user types them: their inputs, their events with the time of each, and what those say."""

import json
import os
import statistics
import subprocess
import threading
import time
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import av
import numpy as np
import torch
from PIL import Image

Event: TypeAlias = dict[str, Any]
"""An event of `--progress json`, with `at`: seconds since the command began."""


@dataclass
class Peak:
    """The most memory of a GPU that was in use, beside what was before, while it is entered."""

    interval: float = 0.25
    bytes: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Peak":
        self._before = used_bytes()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self.interval):
            self.bytes = max(self.bytes, used_bytes() - self._before)


def used_bytes() -> int:
    """Of the GPU's memory, by all processes; 0 without one."""
    if not torch.cuda.is_available():
        return 0
    free, total = torch.cuda.mem_get_info()
    return total - free


def write_inputs(folder: Path, seconds: float) -> tuple[Path, Path]:
    """A chord that swells twice a second, and a picture of soft colours."""
    sound, picture = folder / "sound.wav", folder / "picture.png"
    t = np.arange(round(seconds * 16_000)) / 16_000
    chord = sum(np.sin(2 * np.pi * hertz * t) for hertz in (110, 277.2, 329.6)) * 0.2 * np.abs(np.sin(2 * np.pi * t))
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((chord * 32767).astype("<i2").tobytes())
    colours = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(colours).resize((1024, 1024), Image.Resampling.BICUBIC).save(picture)
    return sound, picture


def run_command(
    arguments: Sequence[str],
    log: Path,
    limit: float,
    is_killed_after: Callable[[Event], bool] | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, list[Event], float]:
    """Exit status, events and seconds. What is told in words, and errors, go to `log`.

    Killed after `limit` seconds, or at an event that `is_killed_after` picks. `environment` is added to this process's.
    """
    given = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
    events: list[Event] = []
    begun = time.perf_counter()
    with (
        log.open("w") as words,
        subprocess.Popen(arguments, stdout=words, stderr=subprocess.PIPE, text=True, env=given) as child,
    ):
        killer = threading.Timer(limit, child.kill)
        killer.start()
        assert child.stderr is not None
        for line in child.stderr:
            event = json.loads(line) if line.startswith("{") else {"event": "words"}
            if event["event"] in {"words", "error"}:
                print(line, end="", file=words, flush=True)
                continue
            events.append({**event, "at": time.perf_counter() - begun})
            _echo(events[-1])
            if is_killed_after is not None and is_killed_after(events[-1]):
                child.kill()
        status = child.wait()
        killer.cancel()
    return status, events, time.perf_counter() - begun


def _echo(event: Event) -> None:
    """Steps and turns as they come, so that a run that is cut short has said something."""
    if event["event"] != "progress" or event.get("step") or event.get("done") == event.get("total"):
        words = (f"{key}={event[key]}" for key in ("stage", "what", "clip", "step", "path") if event.get(key))
        print(f"{event['at']:8.2f} s  {event['event']} {' '.join(words)}", flush=True)


def count_frames(video: Path) -> int:
    """Pictures that decode; 0 if there is no video."""
    if not video.is_file():
        return 0
    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0))


def timings(events: Sequence[Event], total: float) -> dict[str, Any]:
    """Seconds of every phase, from the events' times; None where it did not come to it.

    What lies between the last step of one clip and the first of the next, less that step, is all but sampling.
    """
    steps = [event for event in events if event.get("stage") == "render" and event.get("step")]
    clips = sorted({event["clip"] for event in steps})
    times = {clip: [event["at"] for event in steps if event["clip"] == clip] for clip in clips}
    per_step = {clip: [b - a for a, b in pairwise(at)] for clip, at in times.items()}
    typical = {clip: statistics.median(seconds) if seconds else None for clip, seconds in per_step.items()}
    result = _first(events, lambda event: event["event"] == "result")
    loaded = max((event["at"] for event in events if _is_load(event)), default=None)
    begins = [loaded, *(times[clip][-1] for clip in clips[:-1])]
    before = {
        clip: times[clip][0] - begin - (typical[clip] or 0) if begin is not None else None
        for clip, begin in zip(clips, begins, strict=False)
    }
    return {
        "first_event": events[0]["at"] if events else None,
        "until_start": _first(events, lambda event: event["event"] == "start"),
        "first_step": times[clips[0]][0] if clips else None,
        "load": load_spans(events),
        "step": typical,
        "steps": per_step,
        "before_first_step": before,
        "between_clips": [before[clip] for clip in clips[1:]],
        "after_last_step": result - times[clips[-1]][-1] if result is not None and clips else None,
        "total": total,
    }


def _first(events: Sequence[Event], is_meant: Callable[[Event], bool]) -> float | None:
    return next((event["at"] for event in events if is_meant(event)), None)


def load_spans(events: Sequence[Event]) -> dict[str, tuple[float, float]]:
    """By network: when its first bytes had come, and its last; several may load at once."""
    spans: dict[str, tuple[float, float]] = {}
    for event in events:
        if _is_load(event):
            begun, _ = spans.get(event["what"], (event["at"], event["at"]))
            spans[event["what"]] = (begun, event["at"])
    return spans


def _is_load(event: Event) -> bool:
    return event["event"] == "progress" and event.get("stage") == "load" and bool(event.get("what"))
