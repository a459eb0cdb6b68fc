"""Rendering what is missing: chain after chain, or chains that several processes take one at a time.

A process takes a chain by a claim, renders what is missing of it, and takes the next one while the last clip is on its
way to the disk, until none is left. A chain whose process has ended is taken over where it stands: what that one has
stored is gone on with.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from soundreel.engines.base import Start
from soundreel.render.claims import Claim, ClaimLostError, Claims
from soundreel.render.clip_writer import ClipWriter
from soundreel.render.division import longest_first
from soundreel.render.stored_clips import StoredClips
from soundreel.types import CancelFlag, Chain, Check, Clip, Progress, Report

LOOK_SECONDS: Final = 0.5
"""Between two looks at chains that other processes have."""

OnStored = Callable[[Clip, Check], object]
"""Called with each clip that is on the disk, and with what is to be called in loops."""

Starts = Callable[[ClipWriter], Iterator[Start]]
"""The clips to render, told one by one: which one is next may depend on what is with the writer, and how it went."""


def render_clips(clips: StoredClips, report: Report, stop: CancelFlag, on_stored: OnStored) -> None:
    """Render all that is missing, in order."""

    def starts(writer: ClipWriter) -> Iterator[Start]:
        while clips.missing():
            for chain in clips.render.plan.chains:
                yield from _starts_of(clips, chain, writer)
            writer.wait()

    if clips.missing():
        _render(clips, starts, report, stop, on_stored)


def pull_chains(
    clips: StoredClips,
    claims: Claims,
    report: Report,
    stop: CancelFlag,
    on_stored: OnStored,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Render chains that no other process has, until all clips of all of them are there, whoever rendered them.

    A chain that another process has is waited for: should that one end, it is taken over.
    """
    while clips.missing():
        with suppress(ClaimLostError), _Pull(clips, claims, stop, sleep) as pull:
            _render(clips, pull.starts, pull.hearing(report), stop, pull.giving_back(on_stored))


def _render(clips: StoredClips, starts: Starts, report: Report, stop: CancelFlag, on_stored: OnStored) -> None:
    render = clips.render
    with ClipWriter(clips, report, stop, after=on_stored) as writer:
        for rendered in render.engine.render(render.prepared, starts(writer), writer.hear, stop.check):
            stop.check()
            writer.add(rendered)
            del rendered  # or two clips would be in memory while the next is rendered


def _starts_of(clips: StoredClips, chain: Chain, writer: ClipWriter) -> Iterator[Start]:
    """What is missing of a chain."""
    start = clips.next_start(chain)
    while start is not None:
        writer.hand_on(start.index, clips.handed_on_before(start))
        yield start
        following = start.index + 1
        while following <= chain.clips[-1].index and not clips.is_stored(following):
            yield clips.start_behind(following)
            following += 1
        if following > chain.clips[-1].index:
            return
        writer.wait()  # whether what is stored counts depends on what this clip hands on
        start = clips.next_start(chain)


class _Pull:
    """The chains that this process has: the one in hand, and the one whose last clip is on its way to the disk."""

    def __init__(self, clips: StoredClips, claims: Claims, stop: CancelFlag, sleep: Callable[[float], object]) -> None:
        self._clips, self._claims, self._stop, self._sleep = clips, claims, stop, sleep
        self._held: dict[int, Claim] = {}  # by the chain's index; the writer's thread takes some out

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._held:
            self._held.popitem()[1].release()

    def hearing(self, report: Report) -> Report:
        """`report`, but `ClaimLostError` where another process has taken one of them over."""

        def hear(progress: Progress) -> None:
            for claim in list(self._held.values()):
                claim.check()
            report(progress)

        return hear

    def giving_back(self, on_stored: OnStored) -> OnStored:
        """`on_stored`, after which others see that a chain is there, if it is."""

        def stored(clip: Clip, check: Check) -> None:
            on_stored(clip, check)
            self._give_back(self._clips.render.plan.chain_of(clip))

        return stored

    def starts(self, writer: ClipWriter) -> Iterator[Start]:
        """What is missing, of one chain after the other that nobody else has."""
        clips, plan = self._clips, self._clips.render.plan
        while left := [chain for chain in longest_first(plan.chains) if clips.missing(chain.clips)]:
            self._stop.check()
            chain = next(filter(self._take, left), None)
            if chain is not None:
                clips.look_again(chain.clips)
                yield from _starts_of(clips, chain, writer)
                self._give_back(chain)  # where nothing of it was missing any more
            elif self._held:
                writer.wait()
                for chain in [plan.chains[index] for index in self._held]:  # whose clips the disk has lost again
                    yield from _starts_of(clips, chain, writer)
            else:
                self._sleep(LOOK_SECONDS)
                clips.look_again([plan.clips[index] for index in clips.missing()])

    def _give_back(self, chain: Chain) -> None:
        """Give a claim back, unless something of the chain is not on the disk yet."""
        if not self._clips.missing(chain.clips) and (claim := self._held.pop(chain.index, None)) is not None:
            claim.release()

    def _take(self, chain: Chain) -> bool:
        """Claim a chain, unless somebody has it, or this process has it already."""
        claim = None if chain.index in self._held else self._claims.take(chain.index)
        if claim is not None:
            self._held[chain.index] = claim
            claim.begin()
        return claim is not None
