"""Weights are read ahead by threads: in order, bit by bit, within a bound, and without a thread that outlives them."""

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")

import torch
from safetensors.torch import save_file
from torch import Tensor

from soundreel.errors import WeightsError
from soundreel.weights import reading
from soundreel.weights.read import open_tensors
from soundreel.weights.reading import TensorReader
from soundreel.weights.stored import Stored, collect

CPU = torch.device("cpu")
TENSORS = {
    "large": torch.randn(3, 700, 5),
    "half": torch.randn(40, 30).to(torch.bfloat16),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 4),
    "whole": torch.arange(7),
}
HANGS_SECONDS = 60


@pytest.fixture(params=["safetensors", "pth"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> list[Stored]:
    path = tmp_path / f"weights.{request.param}"
    save = save_file if request.param == "safetensors" else torch.save
    save(TENSORS, path)  # type: ignore[operator]
    found = collect([open_tensors(path)])
    return [found[name] for name in TENSORS]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("read-weights")]


@pytest.mark.parametrize("piece", [64, 1000, 2**20])
def test_tensors_come_in_order_as_they_are_stored(
    stored: list[Stored], piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PIECE_BYTES", piece)
    monkeypatch.setattr(reading, "AHEAD_BYTES", 3000)
    with TensorReader(stored, CPU) as values:
        read = list(values)
    assert [(x.dtype, x.shape) for x in read] == [(x.dtype, x.shape) for x in TENSORS.values()]
    assert all(torch.equal(x, y) for x, y in zip(read, TENSORS.values(), strict=True))


def test_threads_take_turns_more_often_while_anybody_reads(stored: list[Stored]) -> None:
    usual = sys.getswitchinterval()
    with TensorReader(stored, CPU), TensorReader(stored, CPU):
        assert sys.getswitchinterval() == pytest.approx(reading.SHORT_SWITCH_SECONDS)
    assert sys.getswitchinterval() == usual
    with TensorReader(stored, CPU) as values, pytest.raises(RuntimeError, match="stopped"):
        next(iter(values))
        with TensorReader(stored, CPU):
            pass
        assert sys.getswitchinterval() == pytest.approx(reading.SHORT_SWITCH_SECONDS), "one reads still"
        raise RuntimeError("stopped")
    assert sys.getswitchinterval() == usual


@dataclass
class Gate:
    """Tensors of a file of which some wait until they are let through."""

    closed: set[str]
    opened: threading.Event = field(default_factory=threading.Event)
    read: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def until(self, is_so: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(is_so, HANGS_SECONDS)

    def put_before(self, stored: list[Stored], monkeypatch: pytest.MonkeyPatch) -> None:
        kind = type(stored[0].file)
        fill = kind.fill

        def waiting(file: object, name: str, begin: int, into: Tensor) -> None:
            if name in self.closed:
                assert self.opened.wait(HANGS_SECONDS)
            fill(file, name, begin, into)  # type: ignore[arg-type]
            with self.changed:
                self.read.append(name)
                self.changed.notify_all()

        monkeypatch.setattr(kind, "fill", waiting)


def test_what_follows_is_read_while_a_tensor_is_used_and_no_more_than_has_room(
    stored: list[Stored], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(closed=set())
    gate.put_before(stored, monkeypatch)
    monkeypatch.setattr(reading, "AHEAD_BYTES", 2404)  # "half" and "scalar"
    with TensorReader(stored, CPU) as reader:
        values = iter(reader)
        next(values)  # "large" has no room beside another
        assert gate.read == ["large"]
        next(values)
        gate.until(lambda: sorted(gate.read) == ["half", "large", "scalar"])
        assert len(list(values)) == 3


def test_a_large_tensor_is_read_by_all_threads(stored: list[Stored], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PIECE_BYTES", 6000)
    monkeypatch.setattr(reading, "THREADS", 4)
    together = threading.Barrier(4)
    kind = type(stored[0].file)
    fill = kind.fill

    def met(file: object, name: str, begin: int, into: Tensor) -> None:
        if name == "large" and begin < 4 * 6000:
            together.wait(HANGS_SECONDS)  # breaks unless four pieces are read at a time
        fill(file, name, begin, into)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, "fill", met)
    with TensorReader(stored, CPU) as values:
        assert torch.equal(next(iter(values)), TENSORS["large"])


def test_an_error_is_raised_when_its_tensor_has_its_turn(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({f"{k}": torch.randn(1000) for k in range(4)}, path)
    stored = list(collect([open_tensors(path)]).values())
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 3 * 4000 + 100)
    with TensorReader(stored, CPU) as reader:
        values = iter(reader)
        next(values)
        with pytest.raises(WeightsError, match="weights.safetensors' ended while it was read: was it replaced"):
            next(values)


def test_who_leaves_in_the_middle_leaves_no_thread(stored: list[Stored], monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(closed={"whole"})
    gate.put_before(stored, monkeypatch)
    with pytest.raises(KeyboardInterrupt), TensorReader(stored, CPU) as reader:
        next(iter(reader))
        threading.Timer(0.05, gate.opened.set).start()
        raise KeyboardInterrupt


def test_inference_mode_of_the_caller_holds_for_what_threads_write(stored: list[Stored]) -> None:
    with torch.inference_mode(), TensorReader(stored, CPU) as values:
        read = list(values)
    assert all(x.is_inference() for x in read)
