"""Reading five seconds near the end of an hour-long mp3: time and peak memory, against five seconds of a short one.

Each figure is a process of its own, so that peak memory is that of the read alone.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

from soundreel.media.audio import probe_sound, read_model_sound

RATE, HOUR_SECONDS = 44_100, 3600


def write_mp3(path: Path, seconds: int) -> None:
    """Noise that swells and fades, as 128 kb/s mp3."""
    rng = np.random.default_rng(0)
    second = 0.2 * rng.standard_normal((2, RATE)).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libmp3lame", rate=RATE, layout="stereo")
        stream.bit_rate = 128_000
        for k in range(seconds):
            frame = av.AudioFrame.from_ndarray(
                second * np.float32(0.5 + 0.5 * np.sin(k)), format="fltp", layout="stereo"
            )
            frame.sample_rate, frame.pts = RATE, k * RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def read(path: str, start: float) -> None:
    """Read the window and print seconds and peak MB."""
    begun = time.perf_counter()
    length = probe_sound(path).seconds
    samples = read_model_sound(path, start=start, seconds=5.0)
    spent = time.perf_counter() - begun
    print(f"{length:>10.1f} s{start:>9.0f} s{samples.size / 16_000:>8.3f} s{spent:>9.2f} s{peak_megabytes():>8.0f} MB")


def peak_megabytes() -> float:
    """Peak memory of this process; getrusage would count what the parent had before it started this program."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Print the table."""
    print(f"{'sound':>12}{'start':>11}{'window':>10}{'time':>11}{'peak':>11}")
    with tempfile.TemporaryDirectory() as folder:
        for seconds, start in ((10, 3), (HOUR_SECONDS, 3000)):
            path = Path(folder) / f"{seconds}.mp3"
            write_mp3(path, seconds)
            subprocess.run([sys.executable, "-m", "benchmarks.long_sound", str(path), str(start)], check=True)


if __name__ == "__main__":
    read(sys.argv[1], float(sys.argv[2])) if len(sys.argv) > 1 else main()
