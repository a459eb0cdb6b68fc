"""Make a song of known truth: a sound file, and beside it a JSON file with its beats, bars, sections and voice.

    python examples/make_song.py song.flac --seed 7 --kind 6/8

The same seed and options make the same song. It is synthesized, and dedicated to the public domain (CC0 1.0).
"""

import argparse
import json
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from song_band import play
from song_composer import write_song
from song_score import KINDS, Wish

SAMPLE_RATE = 44_100
SAMPLES_PER_FRAME = 1152
LICENSE = "CC0 1.0, https://creativecommons.org/publicdomain/zero/1.0/"
CODECS = {
    ".flac": ("flac", "s16"),
    ".wav": ("pcm_s16le", "s16"),
    ".mp3": ("libmp3lame", "s16p"),
    ".m4a": ("aac", "fltp"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="FILE.flac, .wav, .mp3 or .m4a; the truth goes to FILE.json")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, default="4/4")
    parser.add_argument("--seconds", type=float, default=180.0, help="about so long (180)")
    parser.add_argument("--no-voice", action="store_true", help="nobody sings")
    options = parser.parse_args()
    wish = Wish(seed=options.seed, kind=options.kind, seconds=options.seconds, voice=not options.no_voice)
    make_song(options.output, wish)
    print(f"{options.output}: {options.output.stat().st_size // 1000} kB")


def make_song(path: Path, wish: Wish, *, sample_rate: int = SAMPLE_RATE) -> None:
    """Write the song that is wanted to `path`, and its truth to the same name with `.json`."""
    score = write_song(wish)
    write_sound(path, play(score, sample_rate), sample_rate)
    path.with_suffix(".json").write_text(json.dumps(score.truth(), indent=1) + "\n")


def write_sound(path: Path, sound: NDArray[np.float32], sample_rate: int) -> None:
    """Write stereo sound [samples, 2] with 16 bits; the suffix says in which format."""
    codec, form = CODECS[path.suffix.lower()]
    with av.open(str(path), "w") as container:
        container.metadata.update(artist="soundreel examples", copyright=LICENSE)
        stream = container.add_stream(codec, rate=sample_rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout, stream.format = "stereo", form
        for start in range(0, len(sound), SAMPLES_PER_FRAME):
            frame = to_frame(sound[start : start + SAMPLES_PER_FRAME], form)
            frame.sample_rate, frame.pts = sample_rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def to_frame(block: NDArray[np.float32], form: str) -> av.AudioFrame:
    """Samples [n, 2] as PyAV takes them."""
    if form == "fltp":
        return av.AudioFrame.from_ndarray(np.ascontiguousarray(block.T), format=form, layout="stereo")
    whole = np.rint(block * 32767).astype(np.int16)
    data = np.ascontiguousarray(whole.T if form.endswith("p") else whole.reshape(1, -1))
    return av.AudioFrame.from_ndarray(data, format=form, layout="stereo")


if __name__ == "__main__":
    main()
