"""What this machine is said to have: as the system tells it, and no more than its container may take."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from host import pretend_host
from soundreel.engines.host_memory import available_memory, total_memory

GB = 10**9


def write(folder: Path, files: Mapping[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")


def test_what_is_known_of_this_machine() -> None:
    total, available = total_memory(), available_memory()
    assert total is None or available is None or 2**20 < available <= total


def test_a_machine_without_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_host(monkeypatch, tmp_path, total=32 * GB, available=20 * GB)
    assert total_memory() == pytest.approx(32 * GB, abs=1024)
    assert available_memory() == pytest.approx(20 * GB, abs=1024)


@pytest.mark.parametrize("is_its_own_root", [False, True])
def test_a_container_with_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_its_own_root: bool) -> None:
    root, _ = pretend_host(monkeypatch, tmp_path, total=32 * GB, cgroups="0::/system.slice/box\n")
    box = root if is_its_own_root else root / "system.slice" / "box"
    usage = {"memory.current": 5 * GB, "memory.stat": f"anon {3 * GB}\ninactive_file {2 * GB}"}
    write(box, {"memory.max": 12 * GB, **usage})
    assert total_memory() == 12 * GB
    assert available_memory() == 9 * GB, "file cache is given back"
    write(box, {"memory.max": "max"})
    assert total_memory() == pytest.approx(32 * GB, abs=1024)


def test_the_tightest_group_counts_in_the_older_form_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "4:memory:/pod/box\n3:cpu:/pod\n0::/\n"
    root, _ = pretend_host(monkeypatch, tmp_path, total=32 * GB, available=30 * GB, cgroups=lines)
    used = {"memory.usage_in_bytes": GB, "memory.stat": "total_inactive_file 0"}
    write(root / "memory", {"memory.limit_in_bytes": 2**63 - 4096, **used})
    write(root / "memory" / "pod", {"memory.limit_in_bytes": 8 * GB, **used})
    write(root / "memory" / "pod" / "box", {"memory.limit_in_bytes": 16 * GB, **used})
    assert (total_memory(), available_memory()) == (8 * GB, 7 * GB)


def test_where_nothing_is_told_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, statistics = pretend_host(monkeypatch, tmp_path, total=GB)
    statistics.unlink()
    monkeypatch.setattr("soundreel.engines.host_memory._physical", lambda: None)
    assert (total_memory(), available_memory()) == (None, None)
