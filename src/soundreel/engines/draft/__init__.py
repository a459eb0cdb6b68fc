"""The draft engine: an animatic on the CPU, without weights, in about the time that the sound plays."""

from soundreel.engines.draft.engine import DraftEngine

__all__ = ["DraftEngine"]
