"""Sound as it is computed, kept for later: mono WAV files of floating-point numbers, of any length."""

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def write_float_wav(path: Path, blocks: Iterable[NDArray[np.float32]], sample_rate: int) -> None:
    """Write mono blocks [n], which may exceed full scale; beyond 4 GB the file is an RF64."""
    with av.open(str(path), "w", format="wav", options={"rf64": "auto"}) as container:
        stream = container.add_stream("pcm_f32le", rate=sample_rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        written = 0
        for block in filter(len, blocks):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block[None]), format="flt", layout="mono")
            frame.sample_rate, frame.pts = sample_rate, written
            written += len(block)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
