"""The version of the package, and that of the pictures it makes."""

__version__ = "0.2.0"

PIXELS_VERSION = 2
"""Raised when the same request would give other pictures than before: what was rendered then is not gone on with."""
