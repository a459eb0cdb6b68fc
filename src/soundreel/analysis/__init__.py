"""Sound analysis: loudness, bands, chroma, onsets, tempo and beats, per frame of the video.

`streaming` cuts the sound into overlapping chunks, `spectrum` describes each of them, `rhythm` finds onsets and beats
in the whole, `features` puts it together.
"""

from soundreel.analysis.features import SoundFeatures, analyse

__all__ = ["SoundFeatures", "analyse"]
