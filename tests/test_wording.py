"""Names and sizes as messages show them."""

import os
import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundreel.wording import readable_size, shell_word, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a song – live ✓.mp3", "a song – live ✓.mp3"),
        ("two\nlines\tand\rmore", r"two\nlines\tand\rmore"),
        ("\x1b[31mred\x07\x9b", r"\x1b[31mred\x07\x9b"),
        ("a\u202egnp.exe\u2066\u200f", r"a\u202egnp.exe\u2066\u200f"),
        ("a\u2028b\u2029", r"a\u2028b\u2029"),
        (os.fsdecode(b"\xe9t\xe9"), r"\xe9t\xe9"),
        ("\ud800", r"\ud800"),
        ("می\u200cخواهم 👩\u200d🎤", "می\u200cخواهم 👩\u200d🎤"),
        (r"C:\new", r"C:\new"),
    ],
)
def test_what_is_not_seen_is_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_any_text_becomes_one_line_that_can_be_written(text: str) -> None:
    shown = visible(text)
    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown
    shown.encode()
    assert visible(shown) == shown


@pytest.mark.parametrize("name", ["a.mp4", "a b.mp4", "it's", "歌"])
def test_plain_names_are_quoted_as_usual(name: str) -> None:
    assert shell_word(name) == shlex.quote(name)


def test_a_shell_understands_any_name() -> None:
    names = [b"a\nb", b"\x1b[0m'\\$(x)", b"\xe9t\xe9 1", "\u202e歌".encode(), b"\x01f\x7f"]
    program = "printf '%s\\0' " + " ".join(shell_word(os.fsdecode(name)) for name in names)
    printed = subprocess.run(["bash", "-c", program], capture_output=True, check=True).stdout
    assert printed.split(b"\0")[:-1] == names


def test_sizes() -> None:
    sizes = (0, 61_728, 99_999, 100_000, 22_679_486, 999_900_000, 16_394_821_672)
    told = ["0 bytes", "61,728 bytes", "99,999 bytes", "0.1 MB", "22.7 MB", "999.9 MB", "16.39 GB"]
    assert [readable_size(size) for size in sizes] == told
