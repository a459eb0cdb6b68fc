"""Which engine renders, and why: the driver is asked first, and torch is not loaded to learn that there is no GPU."""

import ctypes
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import soundreel
from command import run_here
from conftest import SHARED
from no_server import NO_SERVER
from soundreel import Request, Server
from soundreel.engines import driver
from soundreel.engines.base import open_engine, why_native, why_not_native
from soundreel.pipeline import prepare

TINY = SHARED / "golden" / "tiny_official"

needs_torch = pytest.mark.skipif(
    find_spec("torch") is None or find_spec("diffusers") is None,
    reason="the packages of soundreel[native] are not here",
)
needs_weights = pytest.mark.skipif(not TINY.is_dir(), reason="../shared/golden is not here")


class Machine:
    """What the driver's questions find; a machine without any GPU until something is put into it."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self._patch, self._folder = patch, folder
        self.loaded: list[str] = []
        self.nvidia(None)
        patch.setattr(driver, "ROCM_DEVICE", folder / "kfd")
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        self.system("Linux", "x86_64")

    def nvidia(self, count: int | None, *, init: int = 0) -> None:
        """A driver that shows `count` GPUs, or fails to start with the code `init`; None: there is no driver."""

        class Library:
            def cuInit(self, flags: int) -> int:
                return init

            def cuDeviceGetCount(self, place: Any) -> int:
                place._obj.value = count
                return 0

        def load(name: str) -> Library:
            self.loaded.append(name)
            if count is None:
                raise OSError(f"{name}: cannot open shared object file")
            return Library()

        self._patch.setattr(driver, "ctypes", SimpleNamespace(CDLL=load, c_int=ctypes.c_int, byref=ctypes.byref))

    def amd(self) -> None:
        (self._folder / "kfd").touch()

    def system(self, name: str, processor: str) -> None:
        self._patch.setattr(driver, "platform", SimpleNamespace(system=lambda: name, machine=lambda: processor))

    def pytorch(self, *, cuda: bool = False, mps: bool = False) -> None:
        """What PyTorch can use."""
        self._patch.setattr("torch.cuda.is_available", lambda: cuda)
        self._patch.setattr("torch.backends.mps.is_available", lambda: mps)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Machine]:
    """A machine whose driver has not been asked yet."""
    driver._cuda_devices.cache_clear()
    yield Machine(monkeypatch, tmp_path)
    driver._cuda_devices.cache_clear()


def ask(**fields: Any) -> Request:
    return Request(**{"audio": "song.mp3", "server": Server(urls=(NO_SERVER,)), "models": TINY} | fields)


class TestDriver:
    def test_none(self, machine: Machine) -> None:
        assert driver.find_gpu() is None
        assert machine.loaded == [driver.CUDA_LIBRARY]

    @pytest.mark.parametrize(
        ("count", "init", "found"), [(1, 0, "a GPU"), (8, 0, "a GPU"), (0, 0, None), (1, 100, None)]
    )
    def test_nvidia(self, machine: Machine, count: int, init: int, found: str | None) -> None:
        machine.nvidia(count, init=init)
        assert driver.find_gpu() == found

    @pytest.mark.parametrize("hidden", ["", "-1"])
    def test_gpus_that_are_hidden_are_not_looked_for(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch, hidden: str
    ) -> None:
        machine.nvidia(2)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert driver.find_gpu() is None
        assert machine.loaded == []

    def test_amd(self, machine: Machine) -> None:
        machine.amd()
        assert driver.find_gpu() == "a GPU"

    @pytest.mark.parametrize(("processor", "found"), [("arm64", "Apple's GPU"), ("x86_64", None)])
    def test_apple(self, machine: Machine, processor: str, found: str | None) -> None:
        machine.system("Darwin", processor)
        assert driver.find_gpu() == found


class TestAuto:
    def test_without_a_gpu_it_is_a_draft_and_says_why(self, machine: Machine) -> None:
        choice = open_engine(ask())
        assert choice.engine.name == "draft"
        assert "native: there is no GPU (--engine native --device cpu uses none)" in choice.why
        assert f"comfyui: no ComfyUI server answers at {NO_SERVER}" in choice.why

    @needs_torch
    @needs_weights
    def test_on_the_cpu_no_gpu_is_claimed(self, machine: Machine) -> None:
        choice = open_engine(ask(device="cpu"))
        assert (choice.engine.name, choice.why) == ("native", "--device cpu is asked for, and the weights are here")

    @needs_torch
    @needs_weights
    def test_with_a_gpu(self, machine: Machine) -> None:
        machine.nvidia(1)
        machine.pytorch(cuda=True)
        choice = open_engine(ask())
        assert (choice.engine.name, choice.why) == ("native", "a GPU is here, and so are the weights")

    @needs_torch
    @needs_weights
    def test_on_a_mac_it_is_apples_gpu(self, machine: Machine) -> None:
        machine.system("Darwin", "arm64")
        machine.pytorch(mps=True)
        choice = open_engine(ask())
        assert (choice.engine.name, choice.why) == ("native", "Apple's GPU is here, and so are the weights")
        assert why_not_native(ask(device="mps")) is None
        assert why_native(ask(device="mps")) == "--device mps is asked for, and the weights are here"

    @needs_torch
    @pytest.mark.parametrize(
        ("system", "device", "says"),
        [
            ("Linux", "auto", r"there is a GPU, but PyTorch \S+ cannot use it"),
            ("Linux", "cuda:1", r"there is a GPU, but PyTorch \S+ cannot use it as cuda:1"),
            ("Darwin", "auto", r"there is Apple's GPU, but PyTorch \S+ cannot use it"),
        ],
    )
    def test_a_pytorch_that_cannot_use_the_gpu(self, machine: Machine, system: str, device: str, says: str) -> None:
        machine.nvidia(2 if system == "Linux" else None)
        machine.system(system, "arm64")
        machine.pytorch()
        choice = open_engine(ask(device=device))
        assert choice.engine.name == "draft"
        assert re.search(f"native: {says};", choice.why)

    @needs_torch
    @pytest.mark.parametrize(("device", "uses"), [("cuda", {"mps": True}), ("mps", {"cuda": True})])
    def test_a_gpu_of_another_kind_than_asked_for(self, machine: Machine, device: str, uses: dict[str, bool]) -> None:
        machine.system("Darwin", "arm64")
        machine.nvidia(1 if "cuda" in uses else None)
        machine.pytorch(**uses)
        assert f"cannot use it as {device}" in str(why_not_native(ask(device=device)))

    @pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
    def test_a_gpu_that_is_asked_for_and_not_there(self, machine: Machine, device: str) -> None:
        assert "there is no GPU" in str(why_not_native(ask(device=device)))

    @needs_torch
    @needs_weights
    def test_the_doctor_says_which_gpu(
        self, machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        machine.system("Darwin", "arm64")
        machine.pytorch(mps=True)
        monkeypatch.setattr("soundreel.weights.find.default_folder", lambda: TINY)
        assert "ready: Apple's GPU is here, and so are the weights" in run_here(capsys, "doctor").out


WITHOUT_A_GPU = """
import sys
from pathlib import Path
from soundreel.engines import driver
driver.CUDA_LIBRARY, driver.ROCM_DEVICE, driver.platform.system = "libnothing.so", Path("/nowhere"), lambda: "Linux"
"""

OPEN = f"""
from soundreel import Request, Server
from soundreel.engines.base import open_engine
print(open_engine(Request(audio="song.mp3", server=Server(urls=("{NO_SERVER}",)))).why)
"""

PLAN = f"""
from soundreel.cli.app import app
app(["plan", sys.argv[1], "--engine", "auto", "--url", "{NO_SERVER}"], standalone_mode=False)
"""

HEAVY = ("torch", "diffusers", "transformers", "scipy", "huggingface_hub")


class TestNothingHeavyIsLoaded:
    """In a process of its own: what this one has imported proves nothing."""

    @pytest.mark.parametrize("asked", [OPEN, PLAN], ids=["open_engine", "plan"])
    def test_without_a_gpu(self, tune: Path, tmp_path: Path, asked: str) -> None:
        out, loaded = self._run(WITHOUT_A_GPU + asked, tune, tmp_path)
        assert "there is no GPU" in out
        assert loaded == []

    @needs_torch
    def test_a_driver_with_a_gpu_is_a_reason_to_ask_torch(self, tune: Path, tmp_path: Path) -> None:
        found = "driver._cuda_devices = lambda: 1\nimport os; os.environ['CUDA_VISIBLE_DEVICES'] = ''\n"
        out, loaded = self._run(WITHOUT_A_GPU + found + PLAN, tune, tmp_path)
        assert "there is a GPU, but PyTorch" in out
        assert "torch" in loaded

    @staticmethod
    def _run(code: str, tune: Path, folder: Path) -> tuple[str, list[str]]:
        tell = f"sys.stderr.write(__import__('json').dumps([name for name in {HEAVY} if name in sys.modules]))"
        command = [sys.executable, "-c", f"{code}\n{tell}", str(tune)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
        return done.stdout, json.loads(done.stderr)


class TestPlan:
    @pytest.mark.parametrize(("engine", "frames"), [("comfyui", [77, 23]), ("native", [49, 51]), ("draft", [49, 51])])
    def test_it_is_what_the_engine_renders_and_no_server_is_asked(
        self, engine: str, frames: list[int], tune: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("a plan needs no server")

        monkeypatch.setattr("socket.socket.connect", refuse)
        if engine == "native":
            pytest.importorskip("torch")
        planned = soundreel.plan(Request(audio=tune, frames=100, engine=engine))
        assert [clip.frames for clip in planned.clips] == frames

    def test_inputs_are_not_read_to_name_a_folder_that_is_not_there(
        self, tune: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read: list[Path] = []
        monkeypatch.setattr("soundreel.render.fingerprint.file_digest", lambda path: read.append(path) or "")
        request = Request(audio=tune, engine="draft", output_dir=tmp_path)
        prepare(request)
        assert read == []
        (tmp_path / ".soundreel").mkdir()
        prepare(request)
        assert read == [tune]
