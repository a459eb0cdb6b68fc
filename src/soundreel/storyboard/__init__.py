"""Storyboards: a song's shots in a file that people edit, TOML with comments or its JSON twin for programs."""

from soundreel.storyboard.proposal import propose
from soundreel.storyboard.reading import noted_digest, read_storyboard
from soundreel.storyboard.writing import storyboard_text

__all__ = ["noted_digest", "propose", "read_storyboard", "storyboard_text"]
