"""Wan 2.2 S2V 14B in this process."""

from soundreel.engines.native.engine import NativeEngine

__all__ = ["NativeEngine"]
