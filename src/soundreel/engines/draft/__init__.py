"""The draft engine: an audio-reactive animatic on the CPU, without model weights, in about the sound's duration."""

from soundreel.engines.draft.engine import DraftEngine

__all__ = ["DraftEngine"]
