"""Rendering what is missing: clips one after the other, or chains of shots that several processes take one at a time.

A process takes a chain by a claim, renders what is missing of it, and takes the next one until none is left. One whose
process has ended is taken over where it stands: what that one has stored is gone on with.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

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


def render_clips(
    clips: StoredClips, start: Start, end: int, report: Report, stop: CancelFlag, on_stored: OnStored
) -> None:
    """Render from `start` to where the next clip is there already, at most to the clip before index `end`."""
    render = clips.render
    with ClipWriter(clips, clips.handed_on_before(start), report, stop, after=on_stored) as writer:
        for rendered in render.engine.render(render.prepared, start, writer.hear, stop.check):
            stop.check()
            following = rendered.clip.index + 1
            writer.add(rendered)
            del rendered  # or two clips would be in memory while the next is rendered
            if following == end:
                return
            if clips.is_stored(following):
                writer.wait()  # whether it counts depends on what this clip hands on
                if clips.has(following):
                    return


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
    plan = clips.render.plan
    while left := [chain for chain in longest_first(plan.chains) if clips.missing(chain.clips)]:
        stop.check()
        claimed = next((pair for chain in left if (pair := (chain, claims.take(chain.index)))[1] is not None), None)
        if claimed is None:
            sleep(LOOK_SECONDS)
            clips.look_again([plan.clips[index] for index in clips.missing()])
            continue
        chain, claim = claimed
        assert claim is not None
        with suppress(ClaimLostError), claim:
            clips.look_again(chain.clips)
            _render_chain(clips, chain, claim, report, stop, on_stored)


def _render_chain(
    clips: StoredClips, chain: Chain, claim: Claim, report: Report, stop: CancelFlag, on_stored: OnStored
) -> None:
    def hear(progress: Progress) -> None:
        claim.check()
        report(progress)

    while (start := clips.next_start(chain)) is not None:
        render_clips(clips, start, chain.clips[-1].index + 1, hear, stop, on_stored)
