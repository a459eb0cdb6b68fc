"""The rows that are to be done, on the disk: memory holds a number for each, and those of one model come together."""

import pickle
from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Self

from soundreel.batch.manifest import Row, Work
from soundreel.disk.digests import data_digest
from soundreel.request import EngineName
from soundreel.request.fields import to_data


class Device(StrEnum):
    """What takes a row."""

    GPU = "gpu"
    CPU = "cpu"
    EITHER = "either"  # a CPU, and a GPU that has nothing else to do


@dataclass(frozen=True)
class Group:
    """Rows that one set of loaded networks renders."""

    device: Device
    model: str  # a digest of what decides which networks are loaded


def group_of(row: Row) -> Group:
    """The group of a row: drafts, servers' renders, those on the CPU and what is only printed take no GPU."""
    return Group(device=_device(row), model=data_digest([row.request.engine, to_data(row.request.compute)]))


def _device(row: Row) -> Device:
    request = row.request
    if request.engine not in {EngineName.AUTO, EngineName.NATIVE} or request.compute.device == "cpu":
        return Device.CPU
    return Device.EITHER if row.work is Work.PRINT else Device.GPU


class Rows:
    """Rows that wait for their turn, in a file without a name that ends with this process. A context manager."""

    def __init__(self) -> None:
        self._file: Any = TemporaryFile()  # noqa: SIM115 - closed in the end
        self._places: dict[Group, array[int]] = defaultdict(lambda: array("Q"))
        self._taken: dict[Group, int] = defaultdict(int)
        self._back: dict[Group, list[Row]] = defaultdict(list)

    def add(self, row: Row) -> None:
        """Put a row at the end of its group."""
        self._places[group_of(row)].append(self._file.seek(0, 2))
        pickle.dump(row, self._file)

    def give_back(self, row: Row) -> None:
        """Let a row be taken again, before all others of its group."""
        self._back[group_of(row)].append(row)

    def take(self, *, on_gpu: bool | None = None, last: Group | None = None) -> Row | None:
        """The next row: of the group taken `last` while it has any, else of that which has the most.

        Args:
            on_gpu: for a GPU, or for a CPU; None: for what has to take all.
        """
        groups = self._groups(on_gpu)
        groups = [group for group in groups if group.device is Device.GPU] or groups
        if not groups:
            return None
        group = last if last in groups else max(groups, key=self._left)
        assert group is not None
        if self._back[group]:
            return self._back[group].pop()
        place = self._places[group][self._taken[group]]
        self._taken[group] += 1
        return self._read(place)

    def left(self, *, on_gpu: bool | None = None) -> int:
        """How many wait that `take` would give in turn."""
        return sum(map(self._left, self._groups(on_gpu)))

    def __iter__(self) -> Iterator[Row]:
        """All that were added, group by group, taken or not."""
        for places in self._places.values():
            yield from map(self._read, places)

    def _groups(self, on_gpu: bool | None) -> list[Group]:
        """Those with rows for such a device."""
        unfit = {None: None, True: Device.CPU, False: Device.GPU}[on_gpu]
        known = dict.fromkeys([*self._places, *self._back])
        return [group for group in known if group.device is not unfit and self._left(group)]

    def _left(self, group: Group) -> int:
        return len(self._places[group]) - self._taken[group] + len(self._back[group])

    def _read(self, place: int) -> Row:
        self._file.seek(place)
        row = pickle.load(self._file)  # noqa: S301 - written by this process into a file that no other can open
        assert isinstance(row, Row)
        return row

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
