"""Whatever is typed: a documented exit code and plain words, no input changed, nothing left that was not asked for."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path

import pytest
from hypothesis import given, settings

from adversary import assert_plain, contents, type_in
from command import Outcome
from command_lines import CommandLine, command_lines, furnish
from no_server import NO_SERVER

OUTPUTS = frozenset({"output", "output__path", "output__dir", "output_dir", "work_dir", "export_workflow"})
WORKED_ON = frozenset({"folder", "source"})
"""Parameters whose places may be written to: what is asked for, and work folders."""

STAGED = frozenset({"finished.mp4", "partial.mp4"})
"""Names of what is made in a work folder for another place."""


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("furnished")
    furnish(place)
    return place


@settings(max_examples=40, derandomize=True)
@given(line=command_lines(NO_SERVER))
def test_any_command_line(furnished: Path, line: CommandLine) -> None:
    check(furnished, line)


@pytest.mark.long
@settings(max_examples=2000)
@given(line=command_lines(NO_SERVER))
def test_many_command_lines(furnished: Path, line: CommandLine) -> None:
    check(furnished, line)


def check(furnished: Path, line: CommandLine) -> None:
    """Type the line in a copy of the furnished folder."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "place")
        shutil.copytree(furnished, place, symlinks=True)
        before = contents(place)
        done = type_in(place, line.words)
        assert_plain(done, line.words, is_verbose=not {"-v", "--verbose"}.isdisjoint(line.words))
        Traces(place, before, contents(place), line, done).check()


@dataclass(frozen=True)
class Traces:
    """What a command has changed in its folder."""

    place: Path
    before: Mapping[str, str]  # by `contents`
    after: Mapping[str, str]
    line: CommandLine
    done: Outcome

    def check(self) -> None:
        """Nothing is changed but what was asked for."""
        changed = {
            name for name in self.before.keys() | self.after.keys() if self.before.get(name) != self.after.get(name)
        }
        told = f"{self.line.words}\n{self.done}\nchanged: {sorted(changed)}"
        for name in changed - {name for name in changed if self._may_be_changed(name)}:
            raise AssertionError(f"{name}: {told}")
        for name, value in self.line.given:
            if name not in OUTPUTS | WORKED_ON and self.before.get(value) != "a folder":
                assert self.after.get(value) == self.before.get(value), told

    def _may_be_changed(self, name: str) -> bool:
        path = Path(name)
        if any(work == path or work in path.parents for work in self._works()):
            return path.suffix != ".tmp" and (path.name not in STAGED or name in self.before)
        if name in self.line.values({"work_dir"}) and self.before.get(name) == "a folder":
            return not any(other.startswith(f"{name}/") for other in self.before)  # it was empty, and is let go of
        asked = {*self._answers(), *self._works()}
        if name.endswith(".partial.mp4"):
            return "go on with: soundreel resume" in self.done.err
        return path in asked or any(path in place.parents for place in asked)

    def _works(self) -> set[Path]:
        """The work folders, before and after."""
        names = map(Path, self.before.keys() | self.after.keys())
        return {path.parent for path in names if path.name.startswith("plan") and path.suffix == ".json"}

    def _answers(self) -> Iterator[Path]:
        """The files that standard output names: by a line each, or by several where a name has line breaks."""
        is_told = self.done.code == 0 or "videos were not made" in self.done.err  # others were
        lines = self.done.out.rstrip("\n").split("\n") if is_told else []
        for first, last in combinations_with_replacement(range(len(lines)), 2):
            yield Path(os.path.relpath(self.place / "\n".join(lines[first : last + 1]), self.place))
