"""Damage to documents and files, drawn from a source of chance: a fuzzer's bytes or a seed."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

T = TypeVar("T")


class Chance(Protocol):
    """Where decisions come from."""

    def integer(self, least: int, most: int) -> int:
        """A number from `least` to `most`, both included."""
        ...


class Seeded:
    """Chance from a seed."""

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(seed)

    def integer(self, least: int, most: int) -> int:
        """A number from `least` to `most`, both included."""
        return self._random.randint(least, most)


def pick(chance: Chance, choices: Sequence[T]) -> T:
    """One of them."""
    return choices[chance.integer(0, len(choices) - 1)]


# documents


def _nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


ODD_VALUES: Final[Sequence[Any]] = (
    None, True, False, 0, 1, -1, 5, 2**31, 2**63, 2**64, 10**400, 0.5, -0.0, 1e-300, 1e300, float("nan"), float("inf"),
    "", " ", "0", "a", "-", "..", "/", "/dev/zero", "no such file", "x" * 300, "\ud800", "\0", "[red]", "é🎷", "1:2:3",
    [], [None], [0], ["a"], [[]], {}, {"": None}, {"a": {}}, [0] * 1000, _nested(100),
)  # fmt: skip


def mutate_document(document: Any, chance: Chance) -> Any:
    """A copy of plain data with some places changed."""
    changed = json.loads(json.dumps(document))
    for _ in range(chance.integer(1, 4)):
        holder, key = _place(changed, chance)
        if holder is None:
            return pick(chance, ODD_VALUES)
        change = pick(chance, _CHANGES)
        change(holder, key, chance)
    return changed


def _place(document: Any, chance: Chance) -> tuple[Any, Any]:
    """A list or dictionary in a document and a key of it; (None, None) for the document as a whole."""
    holder, key = None, None
    while isinstance(document, dict | list) and document and (holder is None or chance.integer(0, 3)):
        keys = list(document) if isinstance(document, dict) else range(len(document))
        holder, key = document, pick(chance, keys)
        document = document[key]
    return holder, key


def _replace(holder: Any, key: Any, chance: Chance) -> None:
    holder[key] = pick(chance, ODD_VALUES)


def _remove(holder: Any, key: Any, chance: Chance) -> None:
    del holder[key]


def _repeat(holder: Any, key: Any, chance: Chance) -> None:
    """The same value once more, under another name or in the list."""
    if isinstance(holder, list):
        holder.insert(chance.integer(0, len(holder)), holder[key])
    else:
        holder[pick(chance, (f"{key}2", "request", "output", "clips", ""))] = holder[key]


def _alter(holder: Any, key: Any, chance: Chance) -> None:
    """A value of the same kind, near the one that was there."""
    value = holder[key]
    if isinstance(value, bool):
        holder[key] = not value
    elif isinstance(value, int | float):
        holder[key] = value + pick(chance, (-1, 1, -0.5, 16, 1000, -(2**31)))
    elif isinstance(value, str):
        at = chance.integer(0, len(value))
        holder[key] = (
            value[:at] + pick(chance, ("", "0", "f", "\n", "/", "\udcff")) + value[at + chance.integer(0, 1) :]
        )
    else:
        _replace(holder, key, chance)


_CHANGES: Final[Sequence[Callable[[Any, Any, Chance], None]]] = (_replace, _remove, _repeat, _alter, _alter)


def written(document: Any, chance: Chance) -> bytes:
    """A document as JSON, now and then in a way in which no program of ours would write it."""
    text = json.dumps(document).encode("utf-8")
    return text if chance.integer(0, 9) else mutate_bytes(text, chance)


# files

NUMBERS: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutate_bytes(content: bytes, chance: Chance) -> bytes:
    """A file with some of its bytes changed, more often near its beginning."""
    changed = bytearray(content)
    for _ in range(chance.integer(1, 4)):
        most = len(changed) if chance.integer(0, 2) == 0 else min(len(changed), 600)
        at = chance.integer(0, most)
        pick(chance, _DAMAGES)(changed, at, chance)
    return bytes(changed)


def _flip(content: bytearray, at: int, chance: Chance) -> None:
    if at < len(content):
        content[at] ^= 1 << chance.integer(0, 7)


def _overwrite(content: bytearray, at: int, chance: Chance) -> None:
    width = pick(chance, (1, 2, 4, 8))
    content[at : at + width] = (pick(chance, NUMBERS) % 256**width).to_bytes(width, pick(chance, ("big", "little")))


def _cut_out(content: bytearray, at: int, chance: Chance) -> None:
    del content[at : at + chance.integer(1, 64)]


def _cut_off(content: bytearray, at: int, chance: Chance) -> None:
    del content[at:]


def _copy(content: bytearray, at: int, chance: Chance) -> None:
    begin = chance.integer(0, len(content))
    content[at:at] = content[begin : begin + chance.integer(1, 64)]


_DAMAGES: Final[Sequence[Callable[[bytearray, int, Chance], None]]] = (
    _flip, _flip, _overwrite, _overwrite, _cut_out, _copy, _cut_off,
)  # fmt: skip
