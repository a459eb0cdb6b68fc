"""Make the example sound and picture beside this script: tune.flac and cover.png.

    python examples/make_example.py

Both are synthesized, the same on every run, and dedicated to the public domain (CC0 1.0).
"""

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from example_cover import paint
from example_tune import SAMPLE_RATE, compose

LICENSE = "CC0 1.0, https://creativecommons.org/publicdomain/zero/1.0/"
HERE = Path(__file__).parent
SAMPLES_PER_FRAME = 4608


def main() -> None:
    write_flac(HERE / "tune.flac", to_16_bit(compose()))
    write_png(HERE / "cover.png", paint())
    for name in ("tune.flac", "cover.png"):
        print(f"{HERE / name}: {(HERE / name).stat().st_size // 1000} kB")


def to_16_bit(sound: NDArray[np.float64]) -> NDArray[np.int16]:
    return np.rint(sound * 32767).astype(np.int16)


def write_flac(path: Path, samples: NDArray[np.int16]) -> None:
    """Write 16-bit stereo samples [samples, 2]."""
    with av.open(str(path), "w") as container:
        container.metadata.update(title="Dusk", artist="soundreel examples", copyright=LICENSE)
        stream = container.add_stream("flac", rate=SAMPLE_RATE, options={"compression_level": "12"})
        stream.layout, stream.format = "stereo", "s16"
        for start in range(0, len(samples), SAMPLES_PER_FRAME):
            interleaved = samples[start : start + SAMPLES_PER_FRAME].reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout="stereo")
            frame.sample_rate, frame.pts = SAMPLE_RATE, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    notes = PngInfo()
    notes.add_text("Title", "Dusk")
    notes.add_text("Copyright", LICENSE)
    Image.fromarray(picture).save(path, optimize=True, pnginfo=notes)


if __name__ == "__main__":
    main()
