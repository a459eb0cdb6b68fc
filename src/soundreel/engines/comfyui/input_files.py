"""The files that a server needs for a plan: driving sound, reference image, and a pose video for each clip."""

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from soundreel.disk.digests import data_digest
from soundreel.driving_sound import DrivingSound
from soundreel.engines.comfyui.graph import InputNames, sampled_length
from soundreel.engines.shot_poses import PoseRun, pose_runs
from soundreel.media.audio import MODEL_SAMPLE_RATE, probe_sound, stream_sound, wav_bytes
from soundreel.media.image import cover, load_image
from soundreel.media.pose import pick_pictures, pose_frame_indices
from soundreel.media.video import SegmentWriter, probe_video, read_frames
from soundreel.types import Check, Clip, Plan, go_on, heard
from soundreel.units import MODEL_FPS

Samples = NDArray[np.float32]

POSE_CRF: Final = 8
"""Visually lossless: poses are only encoded by the VAE."""


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """A file to upload, named by the digest of its content, so that it never replaces another."""

    name: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class InputFiles:
    """All input files of a plan."""

    sound: InputFile
    references: tuple[InputFile | None, ...]  # of each shot
    poses: tuple[InputFile | None, ...]  # of each clip

    def __iter__(self) -> Iterator[InputFile]:
        found = (self.sound, *self.references, *self.poses)
        yield from {file.name: file for file in found if file is not None}.values()

    def names(self, uploaded: Mapping[str, str] | None = None) -> InputNames:
        """The files' names for a graph: those on the server, by `uploaded` (our names → the server's), or ours."""
        there = uploaded or {file.name: file.name for file in self}
        return InputNames(
            sound=there[self.sound.name],
            references=[None if picture is None else there[picture.name] for picture in self.references],
            poses=[None if pose is None else there[pose.name] for pose in self.poses],
        )


def placeholders(plan: Plan) -> InputFiles:
    """Files without content, for composing the graph of `plan` before its files are made."""
    asked = [plan.request_of(shot) for shot in plan.shots]

    def picture(number: int) -> InputFile | None:
        path = asked[number].ref_image
        return None if path is None else InputFile(name=f"reference_{data_digest(str(path))[:20]}.png", content=b"")

    def pose(clip: Clip) -> InputFile | None:
        has_poses = asked[clip.shot].guide.pose_video is not None
        return InputFile(name=f"pose_{clip.index}.mp4", content=b"") if has_poses else None

    return InputFiles(
        sound=InputFile(name="sound.wav", content=b""),
        references=tuple(map(picture, range(len(asked)))),
        poses=tuple(map(pose, plan.clips)),
    )


def make_input_files(
    plan: Plan, scratch: Path, *, sound: Samples | None = None, first_frame: int = 0, check: Check = go_on
) -> InputFiles:
    """Make the input files of `plan`.

    Args:
        plan: the plan of one chain.
        sound: what drives it, mono at 16 kHz; None: what its request says.
        scratch: folder for temporary files.
        first_frame: frame of the video at which the chain begins, which determines its part of the pose videos.
        check: called between frames and between blocks of sound; may raise to stop.

    Raises:
        InputError: a file cannot be opened.
        MediaError: a file cannot be decoded.
    """
    request = plan.request
    heard = DrivingSound.of(plan, check=check).samples(heard_seconds(plan), check) if sound is None else sound
    paths = [plan.request_of(shot).ref_image for shot in plan.shots]
    pictures = {
        path: _named(_png(cover(load_image(path), request.width, request.height)), ".png")
        for path in dict.fromkeys(paths)
        if path is not None
    }
    return InputFiles(
        sound=_named(wav_bytes(heard, MODEL_SAMPLE_RATE), ".wav"),
        references=tuple(None if path is None else pictures[path] for path in paths),
        poses=tuple(_pose_videos(plan, scratch, first_frame, check)),
    )


def make_played_sound(plan: Plan) -> InputFile:
    """The window of the original sound, with its rate and channels, for a video that plays it; errors as above."""
    request = plan.request
    blocks = stream_sound(request.audio, start=request.window.start, seconds=plan.audio_seconds)
    info = probe_sound(request.audio)
    samples = np.concatenate([np.empty((0, info.channels), np.float32), *blocks])
    return _named(wav_bytes(samples, info.sample_rate), ".wav")


def heard_seconds(plan: Plan) -> float:
    """Seconds of sound for the server; clips of different lengths need some for all the frames that they sample.

    The S2V nodes fill the sound up to a multiple of a clip's own length, which is too little for the last one where the
    others are not as long.
    """
    if len({clip.size for clip in plan.clips}) == 1:
        return plan.seconds
    return max(plan.seconds, (sum(clip.size for clip in plan.clips) - 1) / MODEL_FPS)


def _pose_videos(plan: Plan, scratch: Path, first_frame: int, check: Check) -> Iterator[InputFile | None]:
    """A pose video at 16 fps for each clip, in the render's size, from the first frame that the clip samples."""
    for run in pose_runs(plan):
        if run.path is None:
            yield from (None for _ in run.clips)
            continue
        began = run.clips[0]
        first = began.start - run.origin if run.shot else plan.first_sampled(began) + first_frame
        for content in _pose_videos_of(plan, run, first, scratch, check):
            yield _named(content, ".mp4")


def _pose_videos_of(plan: Plan, run: PoseRun, first: int, scratch: Path, check: Check) -> Iterator[bytes]:
    """Those of a run of clips whose pose video is `first` frames on when the run begins."""
    request, path = plan.request, run.path
    assert path is not None
    end = first + sum(clip.size for clip in run.clips)
    indices = pose_frame_indices(probe_video(path).fps, end)[first:]
    pictures = pick_pictures(heard(read_frames(path), check), indices, hold=True)
    file = scratch / "pose.mp4"
    for clip in run.clips:
        with SegmentWriter(file, width=request.width, height=request.height, fps=MODEL_FPS, crf=POSE_CRF) as writer:
            for picture in islice(heard(pictures, check), sampled_length(clip)):
                assert picture is not None, "the last pose is held"
                writer.write(cover(picture, request.width, request.height)[np.newaxis])
        deque(islice(pictures, clip.size - sampled_length(clip)), maxlen=0)  # between this clip's and the next
        yield file.read_bytes()
    file.unlink()


def _named(content: bytes, ending: str) -> InputFile:
    return InputFile(name=f"soundreel_{hashlib.sha256(content).hexdigest()[:20]}{ending}", content=content)


def _png(picture: NDArray[np.uint8]) -> bytes:
    out = BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()
