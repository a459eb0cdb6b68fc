"""The rows that are to be done, on the disk: memory holds a number for each, and those of one model come together."""

import pickle
from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Self

from soundreel.batch.manifest import Row
from soundreel.disk.digests import data_digest
from soundreel.request import EngineName
from soundreel.request.fields import to_data


@dataclass(frozen=True)
class Group:
    """Rows that one set of loaded networks renders."""

    takes_gpu: bool
    model: str  # a digest of what decides which networks are loaded


def group_of(row: Row) -> Group:
    """The group of a row: drafts, servers' renders and those on the CPU take no GPU."""
    request = row.request
    takes_gpu = request.engine in {EngineName.AUTO, EngineName.NATIVE} and request.compute.device != "cpu"
    return Group(takes_gpu=takes_gpu, model=data_digest([request.engine, to_data(request.compute)]))


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
            on_gpu: only rows that take a GPU, or only those that take none; None: any.
        """
        groups = [group for group in self._places if on_gpu in {None, group.takes_gpu} and self._left(group)]
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
        """How many wait."""
        return sum(self._left(group) for group in self._places if on_gpu in {None, group.takes_gpu})

    def __iter__(self) -> Iterator[Row]:
        """All that were added, group by group, taken or not."""
        for places in self._places.values():
            yield from map(self._read, places)

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
