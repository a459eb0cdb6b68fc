"""What `soundreel.disk` promises: files whole or not there, names that replace nothing, one process per folder."""

import ast
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from command import REPO, files_below, finish, start
from soundreel.disk import durable, locks
from soundreel.disk.durable import (
    make_folder,
    publish,
    rename_durably,
    sync,
    write_durably,
    write_json,
    write_tensors,
    write_text,
    write_whole,
)
from soundreel.disk.locks import Holder, holder, locked
from soundreel.errors import EngineError, InputError, MediaError

OPEN_FILES = Path("/proc/self/fd")
ELSEWHERE = Path("/dev/shm")  # noqa: S108 - a second file system, where there is one

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="/dev/full and /proc are Linux's")


def fill_disk(path: Path) -> None:
    """A real write that fails for want of room."""
    path.symlink_to("/dev/full")
    path.write_bytes(bytes(100))


class Order:
    """What was synced and renamed, in order: 'sync NAME', 'rename NAME'."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        replace, fsync = Path.replace, os.fsync

        def renaming(path: Path, target: Path) -> Path:
            self.seen.append(f"rename {target.name}")
            return replace(path, target)

        def syncing(handle: int) -> None:
            name = (OPEN_FILES / str(handle)).readlink().name
            self.seen.append("sync temporary" if name.endswith(".tmp") else f"sync {name}")
            fsync(handle)

        patch.setattr(Path, "replace", renaming)
        patch.setattr(os, "fsync", syncing)


class TestWriting:
    def test_a_file_is_written_in_place_of_another(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        for text in ("one", "two"):
            write_text(path, text)
            assert path.read_text() == text
        assert files_below(tmp_path) == ["a.txt"]

    @linux_only
    def test_content_then_name_are_on_the_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        order = Order(monkeypatch)
        write_text(tmp_path / "a.txt", "one")
        assert order.seen == ["sync temporary", "rename a.txt", f"sync {tmp_path.name}"]

    @linux_only
    def test_what_need_not_last_waits_for_no_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        order = Order(monkeypatch)
        write_whole(tmp_path / "a.txt", lambda path: path.write_text("one"))
        assert order.seen == ["rename a.txt"]
        assert (tmp_path / "a.txt").read_text() == "one"

    @pytest.mark.parametrize("write", [write_whole, write_durably])
    @pytest.mark.parametrize("error", [KeyboardInterrupt, EngineError])
    def test_after_an_error_there_is_what_was_before(
        self, tmp_path: Path, write: Callable[..., None], error: type[BaseException]
    ) -> None:
        def fill(path: Path) -> None:
            path.write_text("half")
            raise error

        (tmp_path / "a.txt").write_text("before")
        for name in ("a.txt", "b.txt"):
            with pytest.raises(error):
                write(tmp_path / name, fill)
        assert (tmp_path / "a.txt").read_text() == "before"
        assert files_below(tmp_path) == ["a.txt"]

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
    def test_what_is_no_file_is_never_replaced(self, tmp_path: Path) -> None:
        """Else one who may do anything would make a file of /dev/null."""
        pipe, video = tmp_path / "pipe", tmp_path / "video"
        os.mkfifo(pipe)
        (link := tmp_path / "link").symlink_to(pipe)
        video.write_text("a video")
        for path in (pipe, link):
            says = f"cannot write '{path.name}' in folder .*: a folder, pipe or device has this name"
            with pytest.raises(MediaError, match=says):
                write_text(path, "text")
            with pytest.raises(MediaError, match=says):
                publish(video, path, replace=True)
        assert pipe.is_fifo()
        assert link.is_symlink()
        assert files_below(tmp_path) == ["link", "pipe", "video"]

    def test_a_reader_finds_whole_files_while_a_process_writes_and_is_killed(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        program = f"""if True:
            from itertools import count
            from pathlib import Path
            from soundreel.disk.durable import write_json
            for number in count():
                write_json(Path({str(path)!r}), {{"number": number, "tail": [number] * 20_000}})
                print(number, flush=True)
        """
        process = start(program=("-c", program))
        assert process.stdout is not None
        process.stdout.readline()
        seen = set()
        while len(seen) < 50:
            found = json.loads(path.read_text())
            assert found["tail"] == [found["number"]] * 20_000
            seen.add(found["number"])
        process.kill()
        finish(process)
        found = json.loads(path.read_text())
        assert found["tail"] == [found["number"]] * 20_000

    def test_two_that_write_the_same_file_at_once_do_not_mix(self, tmp_path: Path) -> None:
        both = threading.Barrier(2, timeout=30)

        def write(letter: str) -> None:
            def fill(path: Path) -> None:
                with path.open("w") as file:
                    both.wait()
                    file.write(letter * 1000)
                both.wait()

            write_durably(tmp_path / "a.txt", fill)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(write, "xy"))
        assert (tmp_path / "a.txt").read_text() in {"x" * 1000, "y" * 1000}
        assert files_below(tmp_path) == ["a.txt"]

    @pytest.mark.parametrize("name", ["x" * 250 + ".json", "ä" * 125 + ".json"])
    def test_a_name_of_full_length_can_be_written(self, tmp_path: Path, name: str) -> None:
        write_json(tmp_path / name, {"a": 1})
        assert files_below(tmp_path) == [name]

    def test_plain_data_come_back_paths_as_text_any_letter_and_none(self, tmp_path: Path) -> None:
        data = {"ä": "𝄞 \udcff \n", "path": Path("/a/b"), "numbers": [1, 2.5, None, True]}
        write_json(tmp_path / "a.json", data)
        text = (tmp_path / "a.json").read_text(encoding="utf-8")
        assert json.loads(text) == {**data, "path": os.fspath(Path("/a/b"))}
        assert "ä" in text

    def test_arrays_come_back_however_they_lie_in_memory(self, tmp_path: Path) -> None:
        arrays = {"a": np.arange(12.0).reshape(3, 4).T, "b": np.zeros((2, 0), np.uint8)}
        write_tensors(tmp_path / "a.safetensors", arrays)
        found = load_file(tmp_path / "a.safetensors")
        assert found.keys() == arrays.keys()
        assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
        assert all(found[name].dtype == arrays[name].dtype for name in arrays)

    def test_windows_syncs_files_that_may_be_written_and_no_folders(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """There a folder cannot be opened, and a file that was opened to be read cannot be synced."""
        opened = {}
        really = os.open

        def opening(path: Path, flags: int) -> int:
            opened[path] = flags
            return really(path, flags)

        monkeypatch.setattr(durable, "WINDOWS", True)
        (tmp_path / "a.txt").touch()
        monkeypatch.setattr(os, "open", opening)
        sync(tmp_path / "a.txt")
        sync(tmp_path)
        assert opened == {tmp_path / "a.txt": os.O_RDWR}


class TestMessages:
    @linux_only
    def test_a_full_disk(self, tmp_path: Path) -> None:
        with pytest.raises(MediaError) as caught:
            write_durably(tmp_path / "a.mp4", fill_disk, needed_bytes=2_345_678)
        says = f"cannot write 'a.mp4' in folder {str(tmp_path)!r}: No space left on device; about 2.3 MB are needed, "
        assert str(caught.value).startswith(says)
        assert str(caught.value).endswith(" are free there")
        assert files_below(tmp_path) == []

    @linux_only
    def test_what_is_needed_may_not_be_known_and_a_cure_may_be(self, tmp_path: Path) -> None:
        with pytest.raises(EngineError, match=r"No space left on device; more is needed, .* free there; buy a disk$"):
            write_whole(tmp_path / "a.mp4", fill_disk, error=EngineError, cure="buy a disk")

    def test_where_room_is_not_the_matter_it_is_not_named(self, tmp_path: Path) -> None:
        with pytest.raises(MediaError) as caught:
            write_text(tmp_path / "nowhere" / "a.txt", "one")
        assert str(caught.value) == f"cannot write 'a.txt' in folder '{tmp_path}/nowhere': No such file or directory"

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        make_folder(tmp_path / "a" / "b")
        make_folder(tmp_path / "a" / "b")
        (tmp_path / "file").touch()
        with pytest.raises(EngineError, match=r"cannot write 'c' in folder '.*/file': Not a directory; move it"):
            make_folder(tmp_path / "file" / "c", error=EngineError, cure="move it")


def refuse_links(source: object, target: object, **_: object) -> None:
    """As FAT does."""
    raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.fixture(params=["hard links", "no hard links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "no hard links":
        monkeypatch.setattr(os, "link", refuse_links)
    return str(request.param)


def finished(folder: Path, content: str = "new") -> Path:
    path = folder / f"finished {content}.mp4"
    path.write_text(content)
    return path


@pytest.mark.usefixtures("links")
class TestPublish:
    def test_a_free_name_is_taken(self, tmp_path: Path) -> None:
        for replace in (True, False):
            wanted = tmp_path / f"{replace}.mp4"
            assert publish(finished(tmp_path), wanted, replace=replace) == wanted
            assert wanted.read_text() == "new"
        assert files_below(tmp_path) == ["False.mp4", "True.mp4"]

    def test_an_asked_for_name_is_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp4").write_text("old")
        assert publish(finished(tmp_path), tmp_path / "a.mp4", replace=True) == tmp_path / "a.mp4"
        assert (tmp_path / "a.mp4").read_text() == "new"
        assert files_below(tmp_path) == ["a.mp4"]

    def test_another_name_replaces_nothing_whatever_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp4").write_text("old")
        (tmp_path / "a_2.mp4").symlink_to(tmp_path / "nowhere")
        (tmp_path / "a_3.mp4").mkdir()
        assert publish(finished(tmp_path), tmp_path / "a.mp4", replace=False) == tmp_path / "a_4.mp4"
        assert (tmp_path / "a.mp4").read_text() == "old"
        assert (tmp_path / "a_4.mp4").read_text() == "new"
        assert files_below(tmp_path) == ["a.mp4", "a_2.mp4", "a_3.mp4", "a_4.mp4"]

    def test_many_at_once_get_a_name_each(self, tmp_path: Path) -> None:
        count, rounds = 8, 10
        together = threading.Barrier(count, timeout=60)
        (tmp_path / "a.mp4").write_text("old")

        def publish_all(who: int) -> dict[Path, str]:
            done = {}
            for number in range(rounds):
                content = f"{who} {number}"
                made = finished(tmp_path, content)
                together.wait()
                done[publish(made, tmp_path / "a.mp4", replace=False)] = content
            return done

        with ThreadPoolExecutor(count) as pool:
            results = list(pool.map(publish_all, range(count)))
        names = {name: content for result in results for name, content in result.items()}
        assert len(names) == count * rounds
        assert {name: name.read_text() for name in names} == names
        assert (tmp_path / "a.mp4").read_text() == "old"
        assert len(files_below(tmp_path)) == count * rounds + 1

    @pytest.mark.parametrize("replace", [True, False])
    def test_what_cannot_be_moved_stays_and_nothing_has_the_name(self, tmp_path: Path, replace: bool) -> None:
        if not ELSEWHERE.is_dir() or ELSEWHERE.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is no second file system here")
        made = ELSEWHERE / f"soundreel {os.getpid()}.mp4"
        try:
            made.write_text("new")
            with pytest.raises(MediaError, match=rf"cannot write 'a\.mp4' in folder '{tmp_path}': .*cross-device"):
                publish(made, tmp_path / "a.mp4", replace=replace)
            assert made.read_text() == "new"
        finally:
            made.unlink()
        assert files_below(tmp_path) == []

    @pytest.mark.parametrize("replace", [True, False])
    def test_a_folder_that_is_not_there_is_named(self, tmp_path: Path, replace: bool) -> None:
        with pytest.raises(MediaError, match="cannot write .*nowhere.*No such file"):
            publish(finished(tmp_path), tmp_path / "nowhere" / "a.mp4", replace=replace)
        assert files_below(tmp_path) == ["finished new.mp4"]

    @linux_only
    @pytest.mark.parametrize("replace", [True, False])
    def test_the_content_is_on_the_disk_before_it_has_a_name_and_the_name_on_return(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool
    ) -> None:
        order = Order(monkeypatch)
        publish(finished(tmp_path), tmp_path / "a.mp4", replace=replace)
        named = [step for step in order.seen if step.startswith("rename")]
        assert order.seen == ["sync finished new.mp4", *named, f"sync {tmp_path.name}"]

    def test_a_signal_waits_until_it_is_done(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        really = durable.sync

        def interrupted(path: Path) -> None:
            signal.raise_signal(signal.SIGINT)
            really(path)

        monkeypatch.setattr(durable, "sync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            publish(finished(tmp_path), tmp_path / "a.mp4", replace=False)
        assert files_below(tmp_path) == ["a.mp4"]
        assert (tmp_path / "a.mp4").read_text() == "new"


HOLD = """if True:
    import sys
    from pathlib import Path
    from soundreel.disk.locks import locked
    with locked(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.readline()
"""


@contextmanager
def held_by_another(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that has `folder`."""
    process = start(folder, program=("-c", HOLD), stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        finish(process)


@contextmanager
def asking_until_another_tried(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody asks whose folder it is, and holds the lock at the worst moment: until it is missed by another."""
    asks, missed = threading.Event(), threading.Event()
    lock, unlock = locks.lock_descriptor, locks.unlock_descriptor
    answers: list[Holder | None] = []
    asker = threading.Thread(target=lambda: answers.append(holder(folder)))

    def locking(handle: int, *, blocking: bool) -> bool:
        got = lock(handle, blocking=blocking)
        if not got:
            missed.set()
        return got

    def unlocking(handle: int) -> None:
        if threading.current_thread() is asker:
            asks.set()
            assert missed.wait(30)
        unlock(handle)

    patch.setattr(locks, "lock_descriptor", locking)
    patch.setattr(locks, "unlock_descriptor", unlocking)
    (folder / "lock").write_text(" 12 rack7\n")
    asker.start()
    assert asks.wait(30)
    yield
    asker.join(30)
    assert missed.is_set()
    assert answers == [None]


class TestLocks:
    def test_a_folder_is_one_process_s(self, tmp_path: Path) -> None:
        folder = tmp_path / "new" / "work"
        with held_by_another(folder) as process:
            assert holder(folder) == Holder(pid=str(process.pid), host=socket.gethostname())
            with pytest.raises(InputError) as refused, locked(folder):
                pass
            assert f"process {process.pid} is rendering this in {str(folder)!r}: wait for it" in str(refused.value)

    @pytest.mark.parametrize("end", ["finish", "kill"])
    def test_the_lock_ends_with_its_process_however_that_ends(self, tmp_path: Path, end: str) -> None:
        with held_by_another(tmp_path) as process:
            if end == "kill":
                process.kill()
            finish(process)
            assert holder(tmp_path) is None
            with locked(tmp_path):
                assert holder(tmp_path) == Holder(pid=str(os.getpid()), host=socket.gethostname())
            assert holder(tmp_path) is None

    @linux_only
    def test_a_child_process_that_goes_on_does_not_keep_it(self, tmp_path: Path) -> None:
        with locked(tmp_path):
            (handle,) = (int(entry.name) for entry in OPEN_FILES.iterdir() if leads_to(entry, tmp_path / "lock"))
            copy = os.dup(handle)  # as a forked child has it
        try:
            assert holder(tmp_path) is None
        finally:
            os.close(copy)

    def test_the_same_process_does_not_get_it_twice(self, tmp_path: Path) -> None:
        with locked(tmp_path):
            with pytest.raises(InputError, match=f"process {os.getpid()} is rendering this"), locked(tmp_path):
                pass
            assert holder(tmp_path) is not None, "it is still held"

    def test_a_process_of_another_machine_is_told_with_its_name(self, tmp_path: Path) -> None:
        with held_by_another(tmp_path):
            (tmp_path / "lock").write_text(" 12 rack7\n")
            assert holder(tmp_path) == Holder(pid="12", host="rack7")
            with pytest.raises(InputError, match="process 12 on rack7 is rendering this"), locked(tmp_path):
                pass

    @pytest.mark.parametrize(("text", "pid", "host"), [("", "unknown", ""), ("4711", "4711", "")])
    def test_a_lock_that_says_less(self, tmp_path: Path, text: str, pid: str, host: str) -> None:
        """Nothing yet, or the pid alone, as in version 0.1.0."""
        with held_by_another(tmp_path):
            (tmp_path / "lock").write_text(text)
            assert holder(tmp_path) == Holder(pid=pid, host=host)
            assert str(holder(tmp_path)) == f"process {pid}"

    def test_a_longer_text_of_an_earlier_process_is_gone(self, tmp_path: Path) -> None:
        (tmp_path / "lock").write_text(" 12345678 a_machine_with_a_long_name\n and more\n")
        with locked(tmp_path):
            assert (tmp_path / "lock").read_text() == f" {os.getpid()} {socket.gethostname()}\n"

    def test_asking_leaves_no_trace(self, tmp_path: Path) -> None:
        assert holder(tmp_path) is None
        assert holder(tmp_path / "nowhere") is None
        assert files_below(tmp_path) == []

    def test_whoever_asks_makes_no_start_fail(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with asking_until_another_tried(tmp_path, monkeypatch), locked(tmp_path):
            assert (tmp_path / "lock").read_text().split()[0] == str(os.getpid())

    def test_two_who_ask_do_not_take_each_other_for_the_holder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(locks, "ASKING_SECONDS", 30)
        with asking_until_another_tried(tmp_path, monkeypatch):
            assert holder(tmp_path) is None

    def test_a_folder_that_each_removes_at_its_end_is_only_ever_one_s(self, tmp_path: Path) -> None:
        program = """if True:
            import sys
            from pathlib import Path
            from soundreel.disk.locks import locked
            from soundreel.render.folder_files import remove_work
            folder = Path(sys.argv[1])
            for _ in range(200):
                with locked(folder):
                    (folder / "plan.json").touch(exist_ok=False)
                    remove_work(folder)
        """
        done = [finish(process) for process in [start(tmp_path / "work", program=("-c", program)) for _ in range(3)]]
        assert [outcome.err for outcome in done] == [""] * 3
        assert files_below(tmp_path) == []

    def test_a_folder_that_is_removed_while_it_is_looked_for_is_made_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder, make = tmp_path / "work", os.mkdir
        folder.mkdir()

        def making(path: Path, *arguments: int) -> None:
            try:
                make(path, *arguments)
            except FileExistsError:
                folder.rmdir()  # by the process before
                raise

        monkeypatch.setattr(os, "mkdir", making)
        with locked(folder):
            assert files_below(tmp_path) == ["work", "work/lock"]

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="cannot write into .*/file/work"), locked(tmp_path / "file" / "work"):
            pass

    def test_where_none_can_be_made_the_reason_is_told(self) -> None:
        if not Path("/proc/self").is_dir():
            pytest.skip("there is no /proc")
        with (
            pytest.raises(InputError, match=r"cannot write into 'my videos' \(No such file.*\): .* with --output-dir$"),
            locked(Path("/proc/none/work"), below=Path("my videos"), option="--output-dir"),
        ):
            pass

    def test_a_file_system_without_locks_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(handle: int, *, blocking: bool) -> bool:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(locks, "lock_descriptor", refuse)
        with pytest.raises(InputError, match=r"cannot lock .*No locks available.: choose another"), locked(tmp_path):
            pass
        assert holder(tmp_path) is None

    def test_windows_removes_a_lock_when_it_is_closed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(locks, "WINDOWS", True)
        for name, kept in (("kept", ["kept", "kept/clip_00001.mp4", "kept/lock"]), ("removed", [])):
            with locked(tmp_path / name):
                (tmp_path / name / "clip_00001.mp4").touch()
                (tmp_path / name / "lock").write_text("?12 rack7\n")
                found = holder(tmp_path / name)
                assert found == Holder(pid="12", host="rack7"), "nobody else can read the first byte there"
                if not kept:
                    (tmp_path / name / "clip_00001.mp4").unlink()
            assert [entry for entry in files_below(tmp_path) if entry.startswith(name)] == kept


def leads_to(link: Path, path: Path) -> bool:
    try:
        return link.readlink() == path
    except FileNotFoundError:  # the handle by which the links were listed
        return False


POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}


class TestWithoutPosix:
    def test_no_module_imports_what_windows_lacks(self) -> None:
        """Functions may, where they have asked for the platform."""
        found = []
        for path in (REPO / "src").rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                found += [f"{path.name}: {name}" for name in names if name.partition(".")[0] in POSIX_ONLY]
        assert found == []

    def test_the_package_can_be_imported_where_fcntl_is_not(self) -> None:
        """All that needs no torch, which itself wants it here."""
        program = """if True:
            import sys, warnings
            sys.modules["fcntl"] = None
            warnings.simplefilter("ignore")  # filelock says that it misses it, too
            import soundreel.cli.app, soundreel.cli.reports, soundreel.cli.display, soundreel.pipeline
            import soundreel.engines.comfyui.engine, soundreel.engines.draft.engine
            import soundreel.interpolation.video, soundreel.render.unfinished, soundreel.weights.download
            print("soundreel.disk.locks" in sys.modules, "soundreel.render.work_folder" in sys.modules)
        """
        done = finish(start(program=("-c", program)))
        assert (done.code, done.out.split()) == (0, ["True", "True"]), done.err


def test_a_rename_keeps_what_was_there_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("old")
    with pytest.raises(FileNotFoundError):
        rename_durably(tmp_path / "nothing", tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").read_text() == "old"
