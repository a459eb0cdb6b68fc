"""Key tables: from the names of tensors in a checkpoint to those in our modules."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

NAMED_IN_MESSAGE = 3
"""Tensors or files that a message names at most."""

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""Shape of every tensor by name."""

Table: TypeAlias = tuple[tuple[str, str], ...]
"""Dotted prefixes of names and what to call them instead."""


class KeyTable:
    """Renames by pattern: the first rule that matches the whole name decides; None drops the tensor.

    Prefixes are removed first. A name that no rule matches stays: it is one of ours, or strict loading reports it.
    """

    def __init__(self, rules: Iterable[tuple[str, str | None]], *, prefixes: Sequence[str] = ()) -> None:
        self._rules = [(re.compile(pattern), replacement) for pattern, replacement in rules]
        self._prefixes = tuple(prefixes)

    def __call__(self, name: str) -> str | None:
        """Our name for the stored tensor `name`; None for a known tensor that is not needed."""
        name = without_prefix(name, self._prefixes)
        for pattern, replacement in self._rules:
            match = pattern.fullmatch(name)
            if match is not None:
                return None if replacement is None else match.expand(replacement)
        return name


def without_prefix(name: str, prefixes: Iterable[str]) -> str:
    """`name` without the first of `prefixes` that it begins with."""
    return next((name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix)), name)


def rename_prefix(name: str, table: Table) -> str:
    """`name` with the first prefix of `table` that it is or lies below replaced; unchanged where none fits."""
    for before, after in table:
        if name == before or name.startswith(f"{before}."):
            return after + name.removeprefix(before)
    return name


def count_layers(names: Iterable[str], pattern: str) -> int:
    """1 + the highest number that the group of `pattern`, as `blocks\\.(\\d+)\\..*`, matches in `names`; 0 if none."""
    matches = (re.fullmatch(pattern, name) for name in names)
    return 1 + max((int(match[1]) for match in matches if match is not None), default=-1)


def name_some(names: Sequence[str]) -> str:
    """The first names and the number of the others: "a, b, c and 5 more"."""
    more = len(names) - NAMED_IN_MESSAGE
    return ", ".join(names[:NAMED_IN_MESSAGE]) + (f" and {more} more" if more > 0 else "")
