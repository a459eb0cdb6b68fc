"""Names of files, sizes, and texts that are not ours as messages show them: in plain sight, and ready for a shell."""

import os
import shlex
import sys
import unicodedata
from typing import Final

from soundreel.units import StrPath

JOINERS: Final = "\u200c\u200d"
"""Format characters that belong to words: of Persian and Indian scripts, and inside emoji."""

HIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's controls, formats, surrogates, and separators of lines and paragraphs."""

MEGABYTE, GIGABYTE = 10**6, 10**9

FIRST_BYTE, LAST_BYTE = "\udc80", "\udcff"
"""What Python reads bytes of a name as that are no Unicode: U+DC00 + the byte."""


def visible(text: str) -> str:
    r"""`text` with everything escaped that a terminal would obey and not show.

    A line break becomes `\n`, ESC `\x1b`, a mark that turns the direction of writing `\u202e`, and a byte that is no
    Unicode `\xe9`. What may stand in a name and is seen stays as it is, backslashes included.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(letter: str) -> str:
    if unicodedata.category(letter) not in HIDDEN_CATEGORIES or letter in JOINERS:
        return letter
    if FIRST_BYTE <= letter <= LAST_BYTE:
        return f"\\x{ord(letter) & 0xFF:02x}"
    return letter.encode("unicode_escape").decode()


def readable_size(size: int) -> str:
    """`12.3 MB`; from 1 GB on `12.35 GB`, below 0.1 MB in bytes."""
    if size >= GIGABYTE:
        return f"{size / GIGABYTE:,.2f} GB"
    return f"{size / MEGABYTE:,.1f} MB" if size >= MEGABYTE / 10 else f"{size:,} bytes"


def shell_word(path: StrPath) -> str:
    """A path as a shell takes it, to be copied from a message.

    What cannot be shown, or not in the encoding of messages, is written byte for byte, as `$'a\\x0ab'`, which bash
    understands, and by now POSIX.
    """
    name = os.fspath(path)
    if is_plain(name):
        return shlex.quote(name)
    return f"$'{''.join(map(_typed, _bytes(name)))}'"


def _typed(byte: int) -> str:
    letter = chr(byte)
    return letter if letter.isascii() and letter.isprintable() and letter not in "'\\" else f"\\x{byte:02x}"


def _bytes(name: str) -> bytes:
    try:
        return os.fsencode(name)
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte: no such file can be
        return name.encode("utf-8", "backslashreplace")


def is_plain(text: str) -> bool:
    """Whether all of a text is seen, and can be written in the encoding of messages."""
    try:
        text.encode(getattr(sys.stderr, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return visible(text) == text
