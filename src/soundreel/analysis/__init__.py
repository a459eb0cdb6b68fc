"""Sound analysis: levels, onsets and beats for each frame of a video; beats, bars, sections and voice of a whole song.

For the frames of a video: `streaming` cuts the sound into overlapping chunks, `spectrum` describes each of them,
`rhythm` finds onsets and beats in the whole, `features` puts it together. For a song: `song` says what is heard,
`song_spectrum` keeps a few numbers for each moment, `hearing` puts together what is found in them.
"""

from soundreel.analysis.excerpts import Excerpt, strongest_part
from soundreel.analysis.features import SoundFeatures, analyse
from soundreel.analysis.hearing import hear
from soundreel.analysis.song import Bar, Meter, Role, Section, Song, Span, Tempo, VoiceSource

__all__ = [
    "Bar",
    "Excerpt",
    "Meter",
    "Role",
    "Section",
    "Song",
    "SoundFeatures",
    "Span",
    "Tempo",
    "VoiceSource",
    "analyse",
    "hear",
    "strongest_part",
]
