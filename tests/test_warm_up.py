"""Kernels are proven beside what else a render begins with, once; a folder that takes no kernels stops nobody."""

import errno
import logging
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")

import torch

from native_renders import native_plan
from soundreel.engines.native import NativeEngine, warm_up
from soundreel.engines.native.warm_up import WarmUp
from soundreel.models.attention import Kernel
from soundreel.models.kernels import compile_cache
from soundreel.models.kernels.once import once
from soundreel.request import Request
from weight_files import needs_golden

HANGS_SECONDS = 60


class TestOnce:
    def test_threads_that_ask_meanwhile_wait_for_the_first(self) -> None:
        asked: list[int] = []
        goes_on, begun = threading.Event(), threading.Event()

        @once
        def answer(number: int) -> int:
            asked.append(number)
            begun.set()
            assert goes_on.wait(HANGS_SECONDS)
            return 2 * number

        with ThreadPoolExecutor(3) as pool:
            first = pool.submit(answer, 1)
            assert begun.wait(HANGS_SECONDS)
            others = [pool.submit(answer, 1), pool.submit(answer, 1)]
            goes_on.set()
            assert [future.result() for future in (first, *others)] == [2, 2, 2]
        assert asked == [1]
        assert (answer(2), answer(2)) == (4, 4)
        assert asked == [1, 2]
        answer.cache_clear()  # type: ignore[attr-defined]
        answer(1)
        assert asked == [1, 2, 1]

    def test_what_raises_is_asked_again(self) -> None:
        errors = [OSError("once"), None]

        @once
        def answer() -> str:
            error = errors.pop(0)
            if error is not None:
                raise error
            return "there"

        with pytest.raises(OSError, match="once"):
            answer()
        assert answer() == "there"

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_who_waits_for_one_that_fails_asks_itself(self, error: type[BaseException]) -> None:
        asked: list[str] = []
        goes_on, begun = threading.Event(), threading.Event()

        @once
        def answer() -> str:
            asked.append(threading.current_thread().name)
            if len(asked) == 1:
                begun.set()
                assert goes_on.wait(HANGS_SECONDS)
                raise error
            return "there"

        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(answer)
            assert begun.wait(HANGS_SECONDS)
            second = pool.submit(answer)
            goes_on.set()
            with pytest.raises(error):
                first.result()
            assert second.result() == "there"
        assert len(set(asked)) == 2


def run(*requests: Request) -> None:
    """Begin with each, and wait for the first one's proofs."""
    proofs = WarmUp()
    for request in requests:
        proofs.begin(request)
    assert proofs._pool is not None
    proofs._pool.shutdown(wait=True)
    proofs.end()


class TestWarmUp:
    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> set[object]:
        """What kernels are asked for, as if there were a GPU."""
        found: set[object] = set()
        monkeypatch.setattr(warm_up, "pick_device", lambda _: torch.device("cuda", 0))
        monkeypatch.setattr(warm_up, "is_fused", found.add)
        monkeypatch.setattr(warm_up, "is_convolved", lambda _, dtype: found.add(dtype))
        monkeypatch.setattr(warm_up, "why_not", lambda kernel, *_: found.add(kernel))
        return found

    def test_what_the_render_computes_with_is_proven(self, asked: set[object]) -> None:
        run(Request(audio="a.wav", attention="fp8", vae_precision="fp32"), Request(audio="a.wav"))  # in a session
        assert asked == {torch.device("cuda", 0), torch.float32, Kernel.FP8}

    @pytest.mark.parametrize("attention", ["auto", "flash"])
    def test_what_is_switched_for_the_whole_process_is_not_run_beside_anything(
        self, asked: set[object], attention: str
    ) -> None:
        run(Request(audio="a.wav", attention=attention))
        assert asked == {torch.device("cuda", 0), torch.bfloat16}

    def test_a_cpu_has_none(self) -> None:
        proofs = WarmUp()
        proofs.begin(Request(audio="a.wav", device="cpu"))
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("warm-up")]
        proofs.end()

    @needs_golden
    def test_only_who_renders_warms_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        begun: list[Request] = []
        monkeypatch.setattr(WarmUp, "begin", lambda _, request: begun.append(request))
        planned = native_plan(width=64, height=64, frames=5, infer_frames=8, steps=1)
        NativeEngine().prepare(planned)
        assert begun == []
        with NativeEngine() as engine:
            engine.prepare(planned)
        assert begun == [planned.request]


class TestCompileCache:
    @pytest.fixture(autouse=True)
    def own_variable(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv(compile_cache.VARIABLE, str(tmp_path / "kernels"))
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setenv(compile_cache.MANAGER_VARIABLE, "")
        monkeypatch.delenv(compile_cache.MANAGER_VARIABLE)
        monkeypatch.setattr("tempfile.tempdir", None)
        compile_cache.ensure_room.cache_clear()  # type: ignore[attr-defined]
        compile_cache.is_new.cache_clear()  # type: ignore[attr-defined]

    def test_a_folder_with_room_stays(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        compile_cache.ensure_room()
        assert os.environ[compile_cache.VARIABLE] == str(tmp_path / "kernels")
        assert list((tmp_path / "kernels").iterdir()) == []
        assert caplog.records == []

    def test_a_machine_is_new_until_a_process_has_compiled(self, tmp_path: Path) -> None:
        compile_cache.ensure_room()
        (tmp_path / "kernels" / "KEY").mkdir()
        assert compile_cache.is_new(), "what this process compiles does not count"
        compile_cache.is_new.cache_clear()  # type: ignore[attr-defined]
        assert not compile_cache.is_new()

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
    def test_a_full_disk_is_left_for_another_place(
        self, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        full, allocate = tmp_path / "kernels", os.posix_fallocate

        def allocated(descriptor: int, begin: int, size: int) -> None:
            if str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith(str(full)):
                raise OSError(number, os.strerror(number))
            allocate(descriptor, begin, size)

        monkeypatch.setattr(os, "posix_fallocate", allocated)
        with caplog.at_level(logging.WARNING):
            compile_cache.ensure_room()
            compile_cache.ensure_room()
        there = Path(os.environ[compile_cache.VARIABLE])
        assert there.parent == tmp_path
        assert there.is_dir()
        (record,) = caplog.records
        assert f"{full} ({os.strerror(number)}): the next render compiles them again" in record.getMessage()

    def test_a_folder_that_cannot_be_made_is_left_too(self, tmp_path: Path) -> None:
        (tmp_path / "kernels").write_text("a file")
        compile_cache.ensure_room()
        assert Path(os.environ[compile_cache.VARIABLE]).is_dir()

    def test_a_folder_is_left_once(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Whichever of several threads finds it full first."""
        full = tmp_path / "kernels"
        with caplog.at_level(logging.WARNING), ThreadPoolExecutor(4) as pool:
            assert all(pool.map(lambda _: compile_cache.leave(full, "it is full"), range(8)))
        assert len(list(tmp_path.glob("soundreel-kernels-*"))) == len(caplog.records) == 1

    def test_a_disk_that_becomes_full_while_kernels_are_compiled_stops_none(self, tmp_path: Path) -> None:
        """By a real one of 1 MiB, in a process of its own that may mount it."""
        pytest.importorskip("triton", reason="Triton is not here")
        small = tmp_path / "small"
        small.mkdir()
        mounted = f'mount -t tmpfs -o size=1m tmpfs "{small}" && exec "$0" -c "$1"'
        words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted]
        if shutil.which("unshare") is None or subprocess.run([*words, "true"], check=False).returncode:
            pytest.skip("no file system can be mounted here")
        environment = os.environ | {compile_cache.VARIABLE: str(small), "TMPDIR": str(tmp_path)}
        done = subprocess.run(
            [*words, sys.executable, FILLS_A_DISK], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        first, *others, left = done.stdout.splitlines()
        assert Path(first).parent.parent == small
        assert {Path(path).parents[2] for path in others} == {tmp_path}
        assert left == "[]", "nothing half written is left on a full disk"
        assert done.stderr.count("No space left on device): the next render compiles them again") == 1


FILLS_A_DISK = """
import os
from pathlib import Path
from soundreel.models.kernels import compile_cache
compile_cache.NEEDED_BYTES = 2**10  # what there is when it begins
compile_cache.ensure_room()
from triton.runtime.cache import get_cache_manager
small = Path(os.environ[compile_cache.VARIABLE])
data = bytes(600 * 2**10)
for number in range(3):
    manager = get_cache_manager(f"{number:064x}")
    path = manager.put(data, "kernel.cubin")
    assert Path(path).read_bytes() == data
    assert manager.get_file("kernel.cubin") == path
    print(path)
print([path.name for path in small.rglob("tmp.*")])
"""
