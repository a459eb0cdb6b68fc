"""The whole command line at the full size of Wan 2.2 S2V 14B, on random weights in the official layout.

    python -m benchmarks.full_size --manifest MANIFEST --tokenizer google/umt5-xxl --folder /tmp/s2v

MANIFEST is a JSON file with the shape of every tensor, or a checkpoint folder whose shapes are taken. Random weights
cost what trained ones cost and give noise as video. They are read right after they were written, so that load times
are those of files in the page cache.
"""

import argparse
import json
import math
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import av
import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

Shapes: TypeAlias = Mapping[str, Sequence[int]]
Event: TypeAlias = dict[str, Any]
"""An event of `--progress json`, with `at`: seconds since the command began."""

GIB = 2**30
FPS = 16
SHARD_BYTES = 9_970_000_000
SAFETENSORS_NAMES = {torch.bfloat16: "BF16", torch.float32: "F32"}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

AUDIO_FOLDER = "wav2vec2-large-xlsr-53-english"
TOKENIZER_FOLDER = "google/umt5-xxl"
TRANSFORMER, TEXT, VAE, AUDIO = "transformer", "text_encoder", "vae", "audio_encoder"

CONFIG = {
    "_class_name": "WanModel_S2V",
    "model_type": "s2v",
    "text_len": 512,
    "in_dim": 16,
    "out_dim": 16,
    "num_audio_token": 4,
    "trainable_token_pos_emb": False,
    "motion_token_num": 1024,
}
"""What the published config.json says beside the manifest's configuration."""

AUDIO_CONFIG = {
    "model_type": "wav2vec2",
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "do_stable_layer_norm": True,
    "feat_extract_norm": "layer",
    "layer_norm_eps": 1e-5,
}
"""Of the published wav2vec2 encoder, where the manifest has no configuration of it."""


# ---- the checkpoint ----


@dataclass(frozen=True)
class Part:
    """One network of a manifest."""

    shapes: Shapes
    config: Mapping[str, Any]


def read_manifest(place: Path) -> dict[str, Part]:
    """Shapes by component, from a manifest or from a checkpoint in the official layout."""
    if place.is_dir():
        return {
            TRANSFORMER: Part(_safetensors_shapes(place), _json(place / "config.json")),
            TEXT: Part(_torch_shapes(next(place.glob("models_t5*.pth"))), {}),
            VAE: Part(_torch_shapes(place / "Wan2.1_VAE.pth"), {}),
            AUDIO: Part(_safetensors_shapes(place / AUDIO_FOLDER), _json(place / AUDIO_FOLDER / "config.json")),
        }
    return {
        name: Part(component["keys"], component.get("config", {}))
        for name, component in _json(place)["components"].items()
    }


def write_checkpoint(folder: Path, manifest: Mapping[str, Part], tokenizer: Path) -> dict[str, Any]:
    """Write all files, several at a time; returns seconds and bytes."""
    begun = time.perf_counter()
    (folder / AUDIO_FOLDER).mkdir(parents=True, exist_ok=True)
    shutil.copytree(tokenizer, folder / TOKENIZER_FOLDER, dirs_exist_ok=True, copy_function=shutil.copyfile)
    transformer, audio = manifest[TRANSFORMER], manifest[AUDIO]
    (folder / "config.json").write_text(json.dumps(CONFIG | dict(transformer.config)))
    (folder / AUDIO_FOLDER / "config.json").write_text(json.dumps(AUDIO_CONFIG | dict(audio.config)))
    jobs: list[Callable[[], None]] = [
        lambda: write_torch_file(folder / "models_t5_umt5-xxl-enc-bf16.pth", manifest[TEXT].shapes, torch.bfloat16),
        *_shard_jobs(folder, transformer.shapes),
        lambda: write_safetensors(folder / AUDIO_FOLDER / "model.safetensors", audio.shapes, torch.float32),
        lambda: write_torch_file(folder / "Wan2.1_VAE.pth", manifest[VAE].shapes, torch.float32),
    ]
    with ThreadPoolExecutor(max_workers=len(jobs)) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"seconds": time.perf_counter() - begun, "bytes": size}


def _shard_jobs(folder: Path, shapes: Shapes) -> Iterator[Callable[[], None]]:
    """One job for each shard of the transformer; writes the index at once."""
    shards = split_shards(shapes, 2)
    names = [f"diffusion_pytorch_model-{k:05d}-of-{len(shards):05d}.safetensors" for k in range(1, len(shards) + 1)]
    places = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    total = 2 * sum(math.prod(shape) for shape in shapes.values())
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}))
    for name, shard in zip(names, shards, strict=True):
        yield partial(write_safetensors, folder / name, shard, torch.bfloat16)


def split_shards(shapes: Shapes, width: int) -> list[dict[str, Sequence[int]]]:
    """Tensors in order, in groups of at most `SHARD_BYTES`; `width` bytes per number."""
    shards: list[dict[str, Sequence[int]]] = [{}]
    filled = 0
    for name, shape in shapes.items():
        size = width * math.prod(shape)
        if shards[-1] and filled + size > SHARD_BYTES:
            shards.append({})
            filled = 0
        shards[-1][name] = shape
        filled += size
    return shards


def write_safetensors(path: Path, shapes: Shapes, dtype: torch.dtype) -> None:
    """Header, then tensor after tensor: never more than one of them in memory."""
    table, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + dtype.itemsize * math.prod(shape)
        table[name] = {"dtype": SAFETENSORS_NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    header = json.dumps(table).encode()
    header += b" " * (-len(header) % 8)
    generator = _generator(path)
    with path.open("wb", buffering=0) as file:
        _write_all(file.fileno(), memoryview(len(header).to_bytes(8, "little") + header))
        for name, shape in shapes.items():
            values = draw(name, shape, dtype, generator).cpu().flatten()
            _write_all(file.fileno(), values.view(torch.uint8).numpy().data)


def write_torch_file(path: Path, shapes: Shapes, dtype: torch.dtype) -> None:
    """A flat dict as PyTorch saves it; the text encoder's 11 GB are in memory at once."""
    generator = _generator(path)
    torch.save({name: draw(name, shape, dtype, generator).cpu() for name, shape in shapes.items()}, path)


def draw(name: str, shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Random values that keep every network finite in bfloat16: 1/√(fan-in) deep, norms 1, biases small.

    Each layer then passes on about the scale it gets, and 40 residual blocks grow like a square root.
    """
    is_norm = len(shape) == 1 and name.endswith(".weight")
    if is_norm or name.endswith((".gamma", ".weight_g", ".original0", ".weights")):
        return torch.ones(*shape, dtype=dtype, device=DEVICE)
    scale = 0.02 if len(shape) == 1 else 1 / math.sqrt(math.prod(shape[1:]))
    values = torch.randn(*shape, dtype=dtype, device=DEVICE, generator=generator)
    return values.mul_(scale)


def _generator(path: Path) -> torch.Generator:
    return torch.Generator(DEVICE).manual_seed(int.from_bytes(path.name.encode()[-6:], "big"))


def _write_all(descriptor: int, data: memoryview) -> None:
    """`os.write` writes 2 GiB at most."""
    while data:
        data = data[os.write(descriptor, data[:GIB]) :]


def _safetensors_shapes(folder: Path) -> Shapes:
    shapes: dict[str, Sequence[int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            shapes |= {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    return shapes


def _torch_shapes(path: Path) -> Shapes:
    return {name: list(tensor.shape) for name, tensor in torch.load(path, weights_only=True, mmap=True).items()}


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# ---- the command ----


@dataclass
class Peak:
    """The most device memory that was in use, beside what was before, while it is entered."""

    interval: float = 0.25
    bytes: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Peak":
        self._before = self._used()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self.interval):
            self.bytes = max(self.bytes, self._used() - self._before)

    @staticmethod
    def _used() -> int:
        if DEVICE.type != "cuda":
            return 0
        free, total = torch.cuda.mem_get_info()
        return total - free


def write_inputs(folder: Path, seconds: float) -> tuple[Path, Path]:
    """A chord that swells twice a second, and a picture of soft colours."""
    sound, picture = folder / "sound.wav", folder / "picture.png"
    t = np.arange(round(seconds * 16_000)) / 16_000
    chord = sum(np.sin(2 * np.pi * hertz * t) for hertz in (110, 277.2, 329.6)) * 0.2 * np.abs(np.sin(2 * np.pi * t))
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((chord * 32767).astype("<i2").tobytes())
    colours = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(colours).resize((1024, 1024), Image.Resampling.BICUBIC).save(picture)
    return sound, picture


def command(options: argparse.Namespace, video: Path) -> list[str]:
    """What a user would type."""
    sound, picture = write_inputs(video.parent, options.frames / FPS + 1)
    words = f"{sys.executable} -m soundreel generate {sound} --ref-image {picture} --engine native".split()
    words += f"--models {options.folder} --device {DEVICE} --size {options.size} --frames {options.frames}".split()
    return [*words, *f"--infer-frames {options.infer_frames} --steps {options.steps}".split(),
            *f"--progress json -o {video}".split()]  # fmt: skip


def run_command(
    arguments: Sequence[str], log: Path, limit: float, is_killed_after: Callable[[Event], bool] | None = None
) -> tuple[int, list[Event], float]:
    """Exit status, events and seconds. What is told in words, and errors, go to `log`.

    Killed after `limit` seconds, or at an event that `is_killed_after` picks.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    events: list[Event] = []
    begun = time.perf_counter()
    with (
        log.open("w") as words,
        subprocess.Popen(arguments, stdout=words, stderr=subprocess.PIPE, text=True, env=environment) as child,
    ):
        killer = threading.Timer(limit, child.kill)
        killer.start()
        assert child.stderr is not None
        for line in child.stderr:
            event = json.loads(line) if line.startswith("{") else {"event": "words"}
            if event["event"] in {"words", "error"}:
                print(line, end="", file=words, flush=True)
                continue
            events.append({**event, "at": time.perf_counter() - begun})
            _echo(events[-1])
            if is_killed_after is not None and is_killed_after(events[-1]):
                child.kill()
        status = child.wait()
        killer.cancel()
    return status, events, time.perf_counter() - begun


def _echo(event: Event) -> None:
    """Steps and turns as they come, so that a run that is cut short has said something."""
    if event["event"] != "progress" or event.get("step") or event.get("done") == event.get("total"):
        words = (f"{key}={event[key]}" for key in ("stage", "what", "clip", "step", "path") if event.get(key))
        print(f"{event['at']:8.2f} s  {event['event']} {' '.join(words)}", flush=True)


def count_frames(video: Path) -> int:
    """Pictures that decode; 0 if there is no video."""
    if not video.is_file():
        return 0
    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0))


# ---- the figures ----


def timings(events: Sequence[Event], total: float) -> dict[str, Any]:
    """Seconds of every phase, from the events' times."""
    loads = load_seconds(events)
    steps = [event for event in events if event.get("stage") == "render" and event.get("step")]
    clips = sorted({event["clip"] for event in steps})
    times = {clip: [event["at"] for event in steps if event["clip"] == clip] for clip in clips}
    per_step = {clip: [b - a for a, b in pairwise(at)] for clip, at in times.items()}
    typical = {clip: statistics.median(seconds) if seconds else None for clip, seconds in per_step.items()}
    started = next((event["at"] for event in events if event["event"] == "start"), None)
    result = next((event["at"] for event in events if event["event"] == "result"), None)
    loaded = max((event["at"] for event in events if _is_load(event)), default=started)
    # What lies between the last step of one clip and the first of the next, less that step, is encoding and decoding.
    begins = [loaded, *(times[clip][-1] for clip in clips[:-1])]
    before = {
        clip: times[clip][0] - begin - (typical[clip] or 0) if begin is not None else None
        for clip, begin in zip(clips, begins, strict=False)
    }
    after = result - times[clips[-1]][-1] if result is not None and clips else None
    return {
        "until_start": started, "load": loads, "step": typical, "steps": per_step,
        "before_first_step": before, "after_last_step": after, "total": total,
    }  # fmt: skip


def load_seconds(events: Sequence[Event]) -> dict[str, float]:
    """By network: from the event before its first to its last.

    So building the network is in it, and, small beside that, what the network before had to encode.
    """
    seconds: dict[str, float] = {}
    for previous, event in pairwise(events):
        if _is_load(event):
            seconds[event["what"]] = seconds.get(event["what"], 0.0) + event["at"] - previous["at"]
    return seconds


def _is_load(event: Event) -> bool:
    return event["event"] == "progress" and event.get("stage") == "load" and bool(event.get("what"))


def table(figures: Mapping[str, Any]) -> str:
    """The figures in Markdown."""
    seconds = figures["seconds"]
    written = figures["checkpoint"]
    rows = [
        ("command ended with", str(figures["status"])),
        ("frames in the video / asked for", f"{figures['frames']} / {figures['frames_asked']}"),
        ("checkpoint", f"{written['bytes'] / 1e9:.1f} GB written in {written['seconds']:.1f} s"),
        ("start of the command until the first event", _seconds(seconds["until_start"])),
        *((f"load {network}", _seconds(value)) for network, value in seconds["load"].items()),
        *((f"step, clip {clip} (median)", _seconds(value)) for clip, value in seconds["step"].items()),
        *(
            (f"encode and decode before the first step of clip {clip}", _seconds(value))
            for clip, value in seconds["before_first_step"].items()
        ),
        ("decode and write after the last step", _seconds(seconds["after_last_step"])),
        ("whole command", _seconds(seconds["total"])),
        ("peak device memory", f"{figures['peak_device_bytes'] / GIB:.1f} GiB"),
        ("peak resident memory, mapped files included", f"{figures['peak_resident_bytes'] / GIB:.1f} GiB"),
    ]
    lines = [f"| {name} | {value} |" for name, value in rows]
    return "\n".join([f"{figures['device']}; `{figures['command']}`", "", "| | |", "|---|---|", *lines, ""])


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"


# ---- the whole ----


def measure(options: argparse.Namespace, begun: float) -> dict[str, Any]:
    """Write the checkpoint, run the command, put the figures together."""
    written = write_checkpoint(options.folder, read_manifest(options.manifest), options.tokenizer)
    print(f"{written['bytes'] / 1e9:.1f} GB written in {written['seconds']:.1f} s", flush=True)
    video = options.folder.with_name(f"{options.folder.name}_video.mp4")
    video.unlink(missing_ok=True)
    arguments = command(options, video)
    left = options.limit - (time.perf_counter() - begun)
    with Peak() as peak:
        status, events, seconds = run_command(arguments, options.results / "full_size.log", left)
    return {
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else platform.processor() or "CPU",
        "torch": torch.__version__,
        "command": " ".join(arguments[1:]),
        "status": status,
        "frames": count_frames(video),
        "frames_asked": options.frames,
        "checkpoint": written,
        "seconds": timings(events, seconds),
        "peak_device_bytes": peak.bytes,
        "peak_resident_bytes": 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
    }


def parse_options() -> argparse.Namespace:
    """Sizes and places."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True, help="JSON file, or a checkpoint to imitate")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    parser.add_argument("--folder", type=Path, required=True, help="where the checkpoint is written (46 GB)")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--size", default="480x832")
    parser.add_argument("--frames", type=int, default=157)
    parser.add_argument("--infer-frames", type=int, default=80)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--limit", type=float, default=540, help="seconds for everything; then the command is killed")
    return parser.parse_args()


def main() -> None:
    """Write results, print the table; exit 1 unless the video is whole."""
    begun = time.perf_counter()
    options = parse_options()
    options.results.mkdir(parents=True, exist_ok=True)
    figures = measure(options, begun)
    (options.results / "full_size.json").write_text(json.dumps(figures, indent=1))
    text = table(figures)
    (options.results / "full_size.md").write_text(text)
    print(text)
    if figures["status"] or figures["frames"] != options.frames:
        print((options.results / "full_size.log").read_text()[-4000:])
        sys.exit(1)


if __name__ == "__main__":
    main()
