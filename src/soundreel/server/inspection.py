"""What a helper process does: checks uploads, listens to songs, plans renders. Plain data in and out."""

import dataclasses
import math
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from soundreel import pipeline
from soundreel.analysis import hear, strongest_part
from soundreel.analysis.song import ENERGY_RATE, Song
from soundreel.disk.durable import write_whole
from soundreel.errors import MediaError, SoundreelError
from soundreel.media.audio import probe_sound, stream_sound
from soundreel.media.image import load_image, probe_image
from soundreel.media.stills import read_stills
from soundreel.media.video import has_pictures, probe_video, read_frames
from soundreel.planning import count_tokens
from soundreel.render.division import schedule_of
from soundreel.render.recipe import read_recipe
from soundreel.render.room import disk_need
from soundreel.request import Request
from soundreel.types import Plan
from soundreel.units import MODEL_FPS
from soundreel.wording.durations import rough

PEAKS_RATE: Final = 20
"""Pairs of lowest and highest sample a second, where the sound is short enough for so many."""

MOST_PEAKS: Final = 12_000

PEAKS_OF_A_PART: Final = 240
"""Of an hour, what is decoded in a tenth of a second or two."""

EXCERPT_SECONDS: Final = (5, 10, 20)

THUMBNAIL_PIXELS: Final = 512
"""Longer side of a small picture."""

SHEET_PICTURES, SHEET_HEIGHT, SHEET_GAP = 8, 160, 2
"""Of a contact sheet; pixels."""


def ready() -> None:
    """Nothing: who asks for it has the modules imported."""


def check_upload(path: str) -> dict[str, Any]:
    """What is in a file: `kind`, and facts of its picture, video and sound.

    Raises:
        MediaError: it is none of these, or damaged.
    """
    picture = _picture(path)
    if picture is not None:
        return {"kind": "picture", "picture": picture}
    video = _video(path)
    try:
        sound = _sound(path)
    except SoundreelError:
        if video is None:
            raise MediaError(
                "this is no sound, picture or video that can be read: expected mp3, wav, flac, m4a, ogg, png, jpeg, "
                "webp, mp4 or mkv"
            ) from None
        sound = None
    kind = "sound" if video is None else "video"
    return {"kind": kind} | ({} if video is None else {"video": video}) | ({} if sound is None else {"sound": sound})


def _picture(path: str) -> dict[str, Any] | None:
    try:
        found = probe_image(path)
        load_image(path)
    except SoundreelError:
        return None
    return {"width": found.width, "height": found.height, "is_animated": found.animated}


def _video(path: str) -> dict[str, Any] | None:
    try:
        if not has_pictures(path):
            return None
        found = probe_video(path)
    except SoundreelError:
        return None
    return {"width": found.width, "height": found.height, "frames": found.frames, "fps": float(found.fps)}


def _sound(path: str) -> dict[str, Any]:
    found = probe_sound(path)
    return {
        "seconds": found.seconds,
        "codec": found.codec,
        "sample_rate": found.sample_rate,
        "channels": found.channels,
        "is_cut_off": found.truncated,
    }


# what is heard


Tell = Callable[[dict[str, Any]], None]


def peaks(path: str, seconds: float, sample_rate: int, *, tell: Tell) -> None:
    """Tell the outline of a sound of which length and rate are known, in parts; the first one has none of it: `peaks`
    are pairs of lowest and highest sample, -1 to 1, `per_second` of them.
    """
    size = math.ceil(sample_rate / min(float(PEAKS_RATE), MOST_PEAKS / seconds))  # samples
    facts = {"seconds": round(seconds, 3), "per_second": sample_rate / size}
    tell({**facts, "peaks": []})
    for block in stream_sound(path, mono=True, block_seconds=PEAKS_OF_A_PART * size / sample_rate):
        samples = block[:, 0].clip(-1, 1)
        edges = np.arange(0, len(samples), size)
        pairs = np.stack([np.minimum.reduceat(samples, edges), np.maximum.reduceat(samples, edges)], axis=1)
        tell({**facts, "peaks": np.round(pairs.astype(float), 3).tolist()})


def analyse(path: str, *, tell: Tell) -> dict[str, Any]:
    """What is heard in a song: tempo, beats, bars, sections, voice, energy, and its strongest parts.

    Each second is told as it is listened to; what is to be found in all of them takes a while then.
    """
    seconds = count(1)
    return song_facts(hear(path, check=lambda: tell({"heard": next(seconds)})))


def song_facts(song: Song) -> dict[str, Any]:
    """A song as JSON has it, times in seconds to the millisecond."""
    strongest = [strongest_part(song, seconds) for seconds in EXCERPT_SECONDS if seconds < song.seconds]
    return {
        "seconds": round(song.seconds, 3),
        "tempo_bpm": round(song.tempo_bpm, 2),
        "tempi": [_span(tempo) | {"bpm": round(tempo.bpm, 2)} for tempo in song.tempi],
        "meter": None if song.meter is None else str(song.meter),
        "beat_confidence": round(song.beat_confidence, 3),
        "downbeat_confidence": round(song.downbeat_confidence, 3),
        "beats": [round(beat, 3) for beat in song.beats],
        "downbeats": [round(beat, 3) for beat in song.downbeats],
        "sections": [
            _span(section)
            | {
                "name": section.name,
                "role": str(section.role),
                "letter": section.letter,
                "confidence": round(section.confidence, 3),
                "energy": round(section.energy, 3),
                "voiced": round(section.voiced, 3),
            }
            for section in song.sections
        ],
        "voice": [[round(span.start, 3), round(span.stop, 3)] for span in song.voice],
        "voice_source": str(song.voice_source),
        "energy": {"per_second": ENERGY_RATE, "values": [round(float(value), 3) for value in song.energy]},
        "strongest": [
            {"start": round(part.start, 3), "duration": part.duration, "energy": round(part.energy, 3)}
            for part in strongest
        ],
    }


def _span(span: Any) -> dict[str, float]:
    return {"start": round(span.start, 3), "stop": round(span.stop, 3)}


# what a render would take


def plan(request: Request) -> dict[str, Any]:
    """What a request would make, and what it takes on this machine."""
    render = pipeline.prepare(request)
    estimate, disk = render.engine.estimate(render.prepared), disk_need(render)
    divided = schedule_of(render.plan, render.division, estimate)
    seconds = None if estimate.seconds is None else rough(estimate.seconds - divided.saved_seconds)
    return plan_facts(render.plan) | {
        "engine": render.engine.name,
        "why": render.choice.why,
        "frames_written": render.frames_written,
        "fps_written": render.fps,
        "sound_seconds": render.asked.sound.seconds,
        "memory_bytes": estimate.memory_bytes,
        "memory_mode": render.prepared.memory_mode,
        "devices": render.division.says() or render.prepared.devices,
        "host_memory_bytes": render.prepared.host_bytes,
        "disk_bytes": disk.total,
        "disk_kept_bytes": disk.kept,
        "estimated_seconds": seconds,
        "estimate_basis": estimate.seconds_basis,
        "tokens": [count_tokens(render.plan, clip).total for clip in render.plan.clips]
        if render.engine.name == "native"
        else None,
        "notes": list(render.notes),
    }


def plan_facts(planned: Plan) -> dict[str, Any]:
    """Shots and clips of a plan, as JSON has them."""
    request = planned.request
    return {
        "width": request.width,
        "height": request.height,
        "frames": planned.frames,
        "fps": MODEL_FPS,
        "seconds": planned.seconds,
        "audio_start": request.window.start,
        "audio_seconds": planned.audio_seconds,
        "silence_seconds": planned.silence_seconds,
        "seed": request.seed,
        "shots": [
            {"index": shot.index, "start": shot.start, "stop": shot.stop, "clips": len(shot.clips)}
            for shot in planned.shots
        ],
        "clips": [dataclasses.asdict(clip) for clip in planned.clips],
    }


# pictures


def thumbnail(source: str, target: str) -> None:
    """A small JPEG of a picture."""
    write_jpeg(Image.fromarray(load_image(source)), Path(target))


def first_frame(video: str, target: str) -> None:
    """A small JPEG of how a video begins."""
    write_jpeg(Image.fromarray(next(read_frames(video))), Path(target))


def contact_sheet(video: str, target: str) -> None:
    """Small pictures of a video in a row, from its beginning to its end, as one JPEG."""
    seconds = float(probe_video(video).seconds)
    times = [seconds * number / SHEET_PICTURES for number in range(SHEET_PICTURES)]
    pictures = [Image.fromarray(still) for still in read_stills(video, times, height=SHEET_HEIGHT)]
    width = pictures[0].width
    sheet = Image.new("RGB", ((width + SHEET_GAP) * len(pictures) - SHEET_GAP, SHEET_HEIGHT))
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number * (width + SHEET_GAP), 0))
    write_whole(Path(target), lambda new: sheet.save(new, format="jpeg", quality=85))


def recipe(video: str) -> dict[str, Any]:
    """The recipe in a video of ours."""
    return read_recipe(video)


def write_jpeg(picture: Image.Image, target: Path) -> None:
    """Write a picture, made small, as JPEG."""
    small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    write_whole(target, lambda new: small.save(new, format="jpeg", quality=85))
