"""How a native render begins: what is imported for it, and what is done at the same time."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

from command import finish, start
from full_size import GB, float8_weights, full_demand, full_plan, full_weights
from native_renders import SPEECH, native_plan, prepared, rendered
from soundreel.engines import beginning
from soundreel.engines.base import Prepared
from soundreel.engines.native import NativeEngine, networks
from soundreel.engines.native.block_placement import LoadedTransformer
from soundreel.engines.native.demand import Weights
from soundreel.engines.native.memory_modes import budget_of, choose, with_loading_beside
from soundreel.engines.native.memory_plan import MemoryPlan
from soundreel.engines.native.text import TextEncoder
from soundreel.errors import Cancelled, WeightsError
from soundreel.types import Progress, Stage
from starts import starts_from
from weight_files import COMFY, OFFICIAL, needs_golden, writable_copy

pytestmark = needs_golden

SLOW = (
    "accelerate", "diffusers", "gguf", "pandas", "peft", "scipy", "sklearn", "sympy", "torch._dynamo",
    "torch.distributed.tensor", "transformers",
)  # fmt: skip
"""What takes seconds to import, and is for files and options that a usual render does not have."""

PROGRAM = f"""
import json, sys
from soundreel.__main__ import main
for command in json.loads(sys.argv[1]):
    sys.argv[1:] = command
    try:
        main()
    except SystemExit as end:
        assert end.code in (0, None), command
print(json.dumps([name for name in {SLOW} if name in sys.modules]))
"""

TINY = ("--width", "32", "--height", "32", "--frames", "9", "--infer-frames", "8", "--steps", "1", "--seed", "3")


def imported(*commands: list[str]) -> list[str]:
    """Of `SLOW`, by these commands, one after the other in a process."""
    done = finish(start(json.dumps(commands), program=("-c", PROGRAM)))
    assert done.code == 0, done.err
    return json.loads(done.out.splitlines()[-1])


def test_a_render_imports_nothing_slow(tmp_path: Path) -> None:
    """To the end of it: two clips with guidance, from words, sound and a reference image, and files of each layout."""
    picture = SPEECH.with_name("square_70x70.png")
    asked = ("generate", SPEECH, "--engine", "native", "--device", "cpu", *TINY, "--ref-image", picture)
    layouts = {"official": OFFICIAL, "comfy": COMFY}
    commands = [
        [*map(str, asked), "--models", str(models), "-o", str(tmp_path / f"{name}.mp4"), "--progress", "none"]
        for name, models in layouts.items()
    ]
    assert imported(*commands) == []
    assert all((tmp_path / f"{name}.mp4").exists() for name in layouts)


HANGS_SECONDS = 120


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sound is encoded in each test."""
    monkeypatch.setattr("soundreel.engines.native.sound_store.cache_folder", lambda: tmp_path / "cache")


ONE_CLIP = {"width": 64, "height": 64, "frames": 5, "infer_frames": 8, "steps": 1}


def decided(**fields: object) -> Prepared:
    """A render of one clip, whose encoders work while the transformer is loaded."""
    found = prepared(native_plan(**ONE_CLIP | fields))
    assert found.placement.memory.loads_beside
    return found


def one_after_the_other(what: Prepared) -> Prepared:
    """As where there is no room for both."""
    memory = replace(what.placement.memory, loads_beside=False)
    return replace(what, placement=replace(what.placement, memory=memory))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("load-", "read-"))]


class Order:
    """What of text and transformer is done, one after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.is_loaded = threading.Event()
        self.waits = False
        self._load, self._encode = networks.load_transformer, TextEncoder.encode
        monkeypatch.setattr(networks, "load_transformer", self.load)
        monkeypatch.setattr(TextEncoder, "encode", lambda *given: self.encode(*given))  # noqa: PLW0108 - as a method

    def load(self, *arguments: object) -> LoadedTransformer:
        self.events.append("load")
        loaded = self._load(*arguments)  # type: ignore[arg-type]
        self.is_loaded.set()
        return loaded

    def encode(self, encoder: TextEncoder, prompt: str) -> object:
        if self.waits:
            assert self.is_loaded.wait(HANGS_SECONDS), "the transformer is loaded while text is encoded"
        self.events.append("encode")
        return self._encode(encoder, prompt)


def test_the_transformer_is_loaded_while_text_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    order, what = Order(monkeypatch), decided()
    order.waits = True
    told: list[Progress] = []
    speaking: set[str] = set()

    def hear(progress: Progress) -> None:
        told.append(progress)
        speaking.add(threading.current_thread().name)

    (beside,) = rendered(what, report=hear)
    assert order.events == ["load", "encode", "encode"]
    loaded = {progress.what: (progress.done, progress.total) for progress in told if progress.stage is Stage.LOAD}
    assert len(loaded) == 4
    assert all(done == total for done, total in loaded.values())
    assert speaking == {threading.current_thread().name}, "who renders reports, and no other thread"
    assert threads() == []
    order.events.clear()
    order.waits = False
    (after,) = rendered(one_after_the_other(what))
    assert order.events == ["encode", "encode", "load"], "where there is no room for both"
    assert (beside.frames == after.frames).all()


def test_a_new_render_is_loaded_from_its_plan_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """While its work folder is opened; where none follows the thread ends."""
    order, plan = Order(monkeypatch), native_plan(**ONE_CLIP)
    expected = rendered(decided())[0].frames
    order.is_loaded.clear()
    order.events.clear()
    with NativeEngine() as engine:
        what = engine.prepare(plan)
        assert order.is_loaded.wait(HANGS_SECONDS)
        (made,) = engine.render(what, starts_from(plan, tmp_path), lambda _: None)
        assert order.events == ["load", "encode", "encode"], "once"
        assert (made.frames == expected).all()
    with NativeEngine() as engine:
        engine.prepare(plan)
        again = engine.prepare(plan)
        assert len([name for name in threads() if name.startswith("load-")]) <= 1, "the first one's has ended"
        engine.prepare(plan, again.identity)
        assert threads() == [], "a render that was begun may be sampled to the end"
        engine.prepare(plan)
    assert threads() == []


@pytest.mark.parametrize("is_there", [True, False])
def test_a_damaged_transformer_is_the_same_message(tmp_path: Path, *, is_there: bool) -> None:
    """It is cut off, or gone, after the plan was made."""
    models = writable_copy(OFFICIAL, tmp_path / "official")
    what = decided(models=models)
    path = sorted(models.glob("diffusion_pytorch_model*.safetensors"))[-1]
    if is_there:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 1000)
    else:
        path.unlink()
    messages = []
    for way in (what, one_after_the_other(what)):
        with pytest.raises((WeightsError, FileNotFoundError)) as caught:
            rendered(way)
        messages.append(str(caught.value))
    assert path.name in messages[0]
    assert messages[0] == messages[1]
    assert threads() == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Cancelled])
@pytest.mark.parametrize("where", ["UMT5 text encoder", "wav2vec2 audio encoder", "S2V transformer"])
def test_a_stop_at_any_moment_leaves_no_thread(stop: type[BaseException], where: str) -> None:
    def hear(progress: Progress) -> None:
        if progress.what == where:
            raise stop

    with pytest.raises(stop):
        rendered(decided(), report=hear)
    assert threads() == []


@pytest.mark.parametrize(
    ("weights", "memory", "free", "is_beside"),
    [
        (full_weights, "auto", 80 * GB, True),
        (full_weights, "auto", 46 * GB, False),
        (float8_weights, "auto", 48 * GB, True),
        (float8_weights, "24gb", 80 * GB, True),
        (float8_weights, "16gb", 80 * GB, False),
        (float8_weights, "12gb", 80 * GB, False),
    ],
)
def test_both_come_at_once_only_within_the_plan(
    weights: Callable[[], Weights], memory: str, free: int, *, is_beside: bool
) -> None:
    plan = full_plan(memory=memory)
    asked, request = full_demand(plan), plan.request
    alone = choose(weights(), asked, request, free)
    assert isinstance(alone, MemoryPlan)
    budget = budget_of(alone.mode, free)
    beside = with_loading_beside(weights(), asked, alone, budget, None)
    assert beside.loads_beside == is_beside
    assert budget is not None
    assert beside.peak_bytes <= budget
    assert replace(beside, loads_beside=False, peak_bytes=0, host_bytes=0) == replace(alone, peak_bytes=0, host_bytes=0)


def test_the_first_line_comes_before_anything_slow_and_files_are_read_meanwhile(tmp_path: Path) -> None:
    """By a real command, told by what it had imported when it said so."""
    program = """
import os, sys
from soundreel.__main__ import main
advised, fadvise = [], os.posix_fadvise

def noted(descriptor, begin, length, kind):
    advised.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    fadvise(descriptor, begin, length, kind)

os.posix_fadvise = noted
try:
    main()
finally:
    print(sorted({os.path.basename(path) for path in advised}))
"""
    asked = ("generate", SPEECH, "--engine", "native", "--device", "cpu", "--models", OFFICIAL, *TINY)
    process = start(*asked, "-o", tmp_path / "video.mp4", "--progress", "lines", program=("-c", program))
    assert process.stderr is not None
    first = process.stderr.readline()
    done = finish(process)
    assert first == "load PyTorch\n"
    assert done.code == 0, done.err
    read = done.out.splitlines()[-1]
    assert all(path.name in read for path in OFFICIAL.rglob("*.safetensors"))
    assert all(path.name in read for path in OFFICIAL.glob("*.pth"))


def test_reading_ahead_stops_when_it_is_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    with path.open("wb") as file:
        file.truncate(10 * beginning.CHUNK_BYTES)
    monkeypatch.setattr(beginning, "available_memory", lambda: 100 * beginning.CHUNK_BYTES)
    asked, is_asked, goes_on = [], threading.Event(), threading.Event()

    def advise(_: int, begin: int, *__: int) -> None:
        asked.append(begin)
        is_asked.set()
        assert goes_on.wait(HANGS_SECONDS)

    monkeypatch.setattr("os.posix_fadvise", advise, raising=False)
    ahead = beginning.ReadAhead([tmp_path / "missing", path])
    assert is_asked.wait(HANGS_SECONDS)
    threading.Timer(0.05, goes_on.set).start()
    ahead.stop()
    assert asked == [0]
    assert threads() == []


def test_no_more_is_read_ahead_than_memory_has_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths:
        with path.open("wb") as file:
            file.truncate(3 * beginning.CHUNK_BYTES)
    monkeypatch.setattr(beginning, "available_memory", lambda: 8 * beginning.CHUNK_BYTES)
    asked: list[int] = []
    monkeypatch.setattr("os.posix_fadvise", lambda _, begin, *__: asked.append(begin), raising=False)
    beginning.ReadAhead(paths)._thread.join(HANGS_SECONDS)
    assert asked == [0, beginning.CHUNK_BYTES, 2 * beginning.CHUNK_BYTES, 0]
