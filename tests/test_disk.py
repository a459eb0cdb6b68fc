"""What `soundreel.disk` promises: files whole or not there, names that replace nothing."""

import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from command import files_below, finish, start
from soundreel.disk import durable
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
from soundreel.errors import EngineError, MediaError

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
        for _ in range(300):
            found = json.loads(path.read_text())
            assert found["tail"] == [found["number"]] * 20_000
            seen.add(found["number"])
        process.kill()
        finish(process)
        assert len(seen) > 1, "it wrote meanwhile"
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


def test_a_rename_keeps_what_was_there_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("old")
    with pytest.raises(FileNotFoundError):
        rename_durably(tmp_path / "nothing", tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").read_text() == "old"
