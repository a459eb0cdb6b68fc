"""What is said of a work folder: what is there, what is kept, and why there is nothing to go on with."""

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Final

from soundreel.wording import shell_word


class Kept(Enum):
    """How far a render is whose clips are to be printed again."""

    ENCODED = "encoded"  # its engine keeps no latents
    FINISHED = "finished"
    BEGUN = "begun"


PRINTED_AGAIN: Final = "printed again from kept latents: no pass of the model"


def what_is_there(
    *, missing: Sequence[int], total: int, sampled: Sequence[int], damaged: Sequence[int], changed: Sequence[str]
) -> str:
    """What an earlier run has left for a render; "": nothing.

    Args:
        missing: numbers of the clips that are not whole, from 1.
        sampled: those of them whose latents are kept.
        damaged: those of them that something is there of.
        changed: names of what was asked otherwise in the render that the folder holds.
    """
    if not missing:
        return f"all {total} clips are there from an earlier run"
    beside = f" ({', '.join(changed)} changed; the earlier clips stay)" if changed else ""
    done = f"{total - len(missing)} of {total} clips are there"
    if list(sampled) == list(missing):
        return f"{PRINTED_AGAIN if len(missing) == total else f'{done}, the others are {PRINTED_AGAIN}'}{beside}"
    latents = f"; the latents of {_clips(sampled)} are there" if sampled else ""
    if len(missing) == total:
        return f"rendered beside what is in the folder{latents}{beside}" if changed else latents.removeprefix("; ")
    again = f"; to be rendered again: {', '.join(map(str, damaged))}" if damaged else ""
    return f"{done}, going on with clip {missing[0]}{latents}{again}{beside}"


def what_is_kept(folder: Path, *, done: int, total: int, sampled: int) -> str:
    """What a render that broke off leaves, and how to go on.

    Args:
        sampled: how many clips beside the whole ones have their latents there.
    """
    latents = f" and the latents of {sampled} more" if sampled else ""
    return f"{done} of {total} clips{latents} are kept, go on with: soundreel resume {shell_word(folder)}"


def nothing_to_go_on_with(folder: Path, changed: Sequence[str]) -> str:
    """Why a render cannot be gone on with."""
    why = f"these have changed since: {', '.join(changed)}" if changed else "nothing of it is kept there"
    return f"there is nothing to go on with in {str(folder)!r}: {why}; --keep-work keeps a finished render"


def cannot_print(folder: Path, *, missing: Sequence[int], total: int, engine: str, how: Kept) -> str:
    """Why a render cannot be printed again, and what to do.

    Args:
        missing: numbers of the clips that would have to be rendered, from 1.
    """
    clips = f"{_clips(missing)} of {total}"
    if how is Kept.ENCODED:
        return (
            f"the engine {engine} keeps no latents, and {clips} {'is' if len(missing) == 1 else 'are'} not in "
            f"{str(folder)!r} as they are to be encoded: the command that rendered them, with the new options, renders "
            "them anew"
        )
    cure = (
        "the command that rendered them, with the new options, renders them again"
        if how is Kept.FINISHED
        else f"the render is not finished, soundreel resume {shell_word(folder)} goes on with it"
    )
    return f"the latents of {clips} are not in {str(folder)!r}: {cure}"


def made_otherwise(*, encoded: Mapping[str, Sequence[int]], decoded: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """What was not made as the render was begun, so that its last bits may differ.

    Args:
        encoded: by how it was done, as `on the CPU`: numbers of the clips that began from what was encoded so, from 1.
        decoded: those of the clips that were decoded so.
    """
    for how, numbers in decoded.items():
        yield (
            f"{_clips(numbers)} {_was(numbers)} decoded {how}, not as the render was begun: printed or rendered again, "
            "frames may differ in the last bits"
        )
    for how, numbers in encoded.items():
        yield (
            f"what {_clips(numbers)} began from was encoded {how}, not as the render was begun: rendered again, frames "
            "may differ"
        )


def _was(numbers: Sequence[int]) -> str:
    return "was" if len(numbers) == 1 else "were"


def _clips(numbers: Sequence[int]) -> str:
    """`clip 3` or `clips 3, 4`."""
    return f"clip{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"
