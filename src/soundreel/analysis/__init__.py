"""What the sound does, on the video's time base."""

from soundreel.analysis.features import SoundFeatures, analyse

__all__ = ["SoundFeatures", "analyse"]
