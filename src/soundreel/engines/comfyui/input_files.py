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

from soundreel.driving_sound import DrivingSound
from soundreel.engines.comfyui.graph import InputNames, sampled_length
from soundreel.media.audio import MODEL_SAMPLE_RATE, wav_bytes
from soundreel.media.image import cover, load_image
from soundreel.media.pose import pick_pictures, pose_frame_indices
from soundreel.media.video import SegmentWriter, probe_video, read_frames
from soundreel.types import Check, Plan, go_on, heard
from soundreel.units import MODEL_FPS

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
    reference: InputFile | None
    poses: tuple[InputFile, ...]

    def __iter__(self) -> Iterator[InputFile]:
        yield self.sound
        if self.reference is not None:
            yield self.reference
        yield from self.poses

    def names(self, uploaded: Mapping[str, str] | None = None) -> InputNames:
        """The files' names for a graph: those on the server, by `uploaded` (our names → the server's), or ours."""
        there = uploaded or {file.name: file.name for file in self}
        return InputNames(
            sound=there[self.sound.name],
            reference=None if self.reference is None else there[self.reference.name],
            poses=[there[pose.name] for pose in self.poses],
        )


def placeholders(plan: Plan) -> InputFiles:
    """Files without content, for composing the graph of `plan` before its files are made."""
    request = plan.request
    has_poses = request.guide.pose_video is not None
    return InputFiles(
        sound=InputFile(name="sound.wav", content=b""),
        reference=None if request.ref_image is None else InputFile(name="reference.png", content=b""),
        poses=tuple(InputFile(name=f"pose_{clip.index}.mp4", content=b"") for clip in plan.clips if has_poses),
    )


def make_input_files(plan: Plan, scratch: Path, *, first_frame: int = 0, check: Check = go_on) -> InputFiles:
    """Make the input files of `plan`.

    Args:
        plan: the plan of one chain.
        scratch: folder for temporary files.
        first_frame: frame of the video at which the chain begins, which determines its part of the pose video.
        check: called between frames and between blocks of sound; may raise to stop.

    Raises:
        InputError: a file cannot be opened.
        MediaError: a file cannot be decoded.
    """
    request = plan.request
    reference = None
    if request.ref_image is not None:
        picture = cover(load_image(request.ref_image), request.width, request.height)
        reference = _named(_png(picture), ".png")
    return InputFiles(
        sound=_named(wav_bytes(DrivingSound.of(plan).samples(plan.seconds, check), MODEL_SAMPLE_RATE), ".wav"),
        reference=reference,
        poses=tuple(_named(content, ".mp4") for content in _pose_videos(plan, scratch, first_frame, check)),
    )


def _pose_videos(plan: Plan, scratch: Path, first_frame: int, check: Check) -> Iterator[bytes]:
    """A pose video at 16 fps for each clip, in the render's size, from the first frame that the clip samples."""
    request = plan.request
    if request.guide.pose_video is None:
        return
    end = first_frame + sum(clip.size for clip in plan.clips)
    indices = pose_frame_indices(probe_video(request.guide.pose_video).fps, end)[first_frame:]
    pictures = pick_pictures(heard(read_frames(request.guide.pose_video), check), indices, hold=True)
    file = scratch / "pose.mp4"
    for clip in plan.clips:
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
