"""What version 0.1.0 left: its recipes render again, its work folders are refused in one line, and nothing is lost."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command import files_below
from draft_renders import Soundreel
from soundreel.media.mux import assemble
from soundreel.media.video import SegmentWriter
from soundreel.planning import shot_bounds
from soundreel.request import FLAT_NAMES
from soundreel.request.data import from_data

pytestmark = pytest.mark.usefixtures("few_partial_videos")

REQUEST: dict[str, Any] = {
    "ref_image": None,
    "prompt": "red",
    "negative_prompt": None,
    "audio_start": 0.5,
    "frames": 40,
    "audio_duration": None,
    "full": False,
    "num_clip": None,
    "width": 64,
    "height": 64,
    "infer_frames": 16,
    "clip_split": "even",
    "seed": 3,
    "clip_seeds": [],
    "pose_video": None,
    "start_from_ref": False,
    "ref_fit": "cover",
    "av_align": "sound",
    "steps": 30,
    "guide_scale": 4.5,
    "shift": None,
    "solver": "unipc",
    "sigmas": None,
    "turbo": False,
    "loras": [],
    "engine": "draft",
    "models": None,
    "device": "auto",
    "attention": "auto",
    "precision": "auto",
    "vae_precision": "auto",
    "memory": "auto",
    "cache": 0.0,
    "cfg_interval": None,
    "interpolate": "none",
    "interpolate_weights": None,
    "fps": None,
    "color_match": False,
    "preview": False,
    "crf": 30,
    "output": None,
    "output_dir": "output/video",
    "settings": None,
    "recipe": None,
}
"""As 0.1.0 wrote it, beside the sound."""

SERVER: dict[str, Any] = {
    "urls": ["http://localhost:8188"],
    "timeout": None,
    "workflow": None,
    "diffusion_model": None,
    "text_encoder": None,
    "vae": None,
    "audio_encoder": None,
    "first_frame_fix": True,
}

CLIPS = [(0, 13, 16, 3), (13, 16, 16, 0), (29, 11, 12, 0)]
"""First frame, frames, frames sampled, lead-in."""

WORDS = shlex.split("--size 64x64 --audio-start 0.5 --frames 40 --infer-frames 16 --seed 3 --prompt red --crf 30")


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str], tune: Path) -> Soundreel:
    return Soundreel(capsys, tune)


def clips_of_0_1_0() -> list[dict[str, int]]:
    return [
        {"index": k, "start": start, "frames": frames, "size": size, "lead_in": lead_in, "seed": 3 + k}
        for k, (start, frames, size, lead_in) in enumerate(CLIPS)
    ]


def write_segment(path: Path, frames: int) -> None:
    with SegmentWriter(path, width=64, height=64) as writer:
        writer.write(np.zeros((frames, 64, 64, 3), np.uint8))


@pytest.fixture
def old_work(tmp_path: Path, tune: Path) -> Path:
    """A folder in which 0.1.0 was interrupted after two of three clips."""
    folder = tmp_path / "work"
    (folder / "engine").mkdir(parents=True)
    (folder / "engine" / "comfyui.json").write_text("{}")
    (folder / "lock").write_text("4711")
    for number, (_, frames, _, _) in enumerate(CLIPS[:2], start=1):
        write_segment(folder / f"clip_{number:05d}.mp4", frames)
        record = {"fingerprint": "5" * 64, "seed": 2 + number, "before": "", "segment": "6" * 64, "carry": ""}
        (folder / f"clip_{number:05d}.json").write_text(json.dumps(record | {"facts": {}}))
    plan = {
        "soundreel": "0.1.0",
        "fingerprint": "5" * 64,
        "parts": {"prompt": "red", "plan": {"clips": CLIPS, "audio_seconds": 2.5}},
        "engine": "draft",
        "models": {},
        "request": {"audio": str(tune), "server": SERVER} | REQUEST | {"output": str(tmp_path / "a.mp4")},
        "clips": clips_of_0_1_0(),
        "keep_work": False,
        "finished": False,
        "written": "2026-01-01T00:00:00+00:00",
    }
    (folder / "plan.json").write_text(json.dumps(plan, indent=1))
    return folder


@pytest.fixture
def old_video(tmp_path: Path, tune: Path) -> Path:
    """A video with a recipe of 0.1.0 in it."""
    recipe = {
        "soundreel": "0.1.0",
        "engine": "draft",
        "created": "2026-01-01T00:00:00+00:00",
        "versions": {},
        "models": {},
        "inputs": {"audio": "0" * 64, "pose_video": "1" * 64},
        "request": {"audio": str(tune)} | REQUEST,
        "plan": {"frames": 40, "audio_seconds": 2.5, "clips": clips_of_0_1_0()},
        "reference_look": None,
        "frames": 40,
        "fps": 16,
        "notes": [],
    }
    write_segment(tmp_path / "segment.mp4", 40)
    video = tmp_path / "old.mp4"
    assemble([tmp_path / "segment.mp4"], video, fps=16, sound=None, metadata={"soundreel": json.dumps(recipe)})
    (tmp_path / "segment.mp4").unlink()
    return video


@pytest.mark.parametrize("command", ["generate", "resume", "redo"])
def test_a_work_folder_is_refused_in_one_line_and_left_alone(
    soundreel: Soundreel, tune: Path, tmp_path: Path, old_work: Path, command: str
) -> None:
    words = {
        "generate": ["generate", tune, *WORDS, "-o", tmp_path / "a.mp4", "--work-dir", old_work],
        "resume": ["resume", old_work],
        "redo": ["redo", old_work, "1"],
    }
    before = {name: (tmp_path / name).read_bytes() for name in files_below(tmp_path) if (tmp_path / name).is_file()}
    done = soundreel(*words[command])
    assert done.code == 2
    assert done.err.startswith(f"soundreel: '{old_work}' was begun by soundreel 0.1.0, whose clips this version cannot")
    assert "--no-resume" in done.err
    assert len(done.err.splitlines()) == 1
    after = {name: (tmp_path / name).read_bytes() for name in files_below(tmp_path) if (tmp_path / name).is_file()}
    assert after == before


def test_it_is_listed_with_what_can_be_done(soundreel: Soundreel, tmp_path: Path, old_work: Path) -> None:
    told = soundreel("unfinished", tmp_path)
    (line,) = (line for line in told.out.splitlines() if "0.1.0" in line)
    assert str(old_work) in line
    (render,) = json.loads(soundreel("unfinished", tmp_path, "--json").out)["renders"]
    assert render["folder"] == str(old_work)
    assert "begun by soundreel 0.1.0" in render["problem"]


def test_it_is_thrown_away_when_that_is_asked_for(soundreel: Soundreel, tmp_path: Path, old_work: Path) -> None:
    anew = ["-o", tmp_path / "a.mp4", "--work-dir", old_work, "--no-resume"]
    made = soundreel.draw("generate", soundreel.tune, *WORDS, *anew)
    assert made.drawn == {1, 2, 3}
    assert files_below(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("how", ["--trust-recipe", "--inputs"])
def test_a_recipe_is_rendered_again(soundreel: Soundreel, tmp_path: Path, old_video: Path, how: str) -> None:
    found = [how] if how == "--trust-recipe" else [how, soundreel.tune.parent]
    again = soundreel.draw("generate", "--recipe", old_video, *found, "-o", tmp_path / "b.mp4")
    by_words = soundreel.draw("generate", soundreel.tune, *WORDS, "--engine", "draft", "-o", tmp_path / "c.mp4")
    assert again.frames == by_words.frames
    told = json.loads(soundreel("info", tmp_path / "b.mp4", "--json").out)["recipe"]
    assert told["request"]["window"] == {
        "start": 0.5, "duration": None, "frames": 40, "full": False, "num_clip": None, "default_clips": None,
    }  # fmt: skip
    assert told["request"]["output"]["crf"] == 30


def test_its_path_is_followed_only_if_that_is_asked_for(soundreel: Soundreel, tmp_path: Path, old_video: Path) -> None:
    done = soundreel("generate", "--recipe", old_video, "-o", tmp_path / "b.mp4")
    assert done.code == 2
    assert "no such sound: 'tune.flac'" in done.err
    assert done.err.endswith("--trust-recipe follows the path that it holds\n")
    assert len(done.err.splitlines()) == 1


def test_what_differs_from_a_recipe_is_named_as_now(soundreel: Soundreel, tmp_path: Path, old_video: Path) -> None:
    done = soundreel("generate", "--recipe", old_video, "--trust-recipe", "-o", tmp_path / "b.mp4")
    notes = [line for line in done.err.splitlines() if line.startswith("note:")]
    assert "note: since the recipe was made, input audio has another content" in notes
    assert "note: since the recipe was made, input guide.pose_video is gone" in notes


def test_a_clip_of_its_video_cannot_be_drawn_again_and_that_is_said(soundreel: Soundreel, old_video: Path) -> None:
    done = soundreel("redo", old_video, "1")
    assert done.code == 2
    assert done.err.endswith("names no work folder: it was made before soundreel 0.2\n")
    assert len(done.err.splitlines()) == 1


def test_every_field_of_its_requests_is_read(tune: Path) -> None:
    data = {"audio": str(tune), "server": SERVER | {"vae": "v.safetensors"}} | REQUEST
    request = from_data(json.loads(json.dumps(data)))
    assert not {name for name in REQUEST if name not in FLAT_NAMES and not hasattr(request, name)}
    found = (request.window.start, request.window.frames, request.sampling.infer_frames, request.output.crf)
    assert found == (0.5, 40, 16, 30)
    assert (request.prompt, request.seed, request.engine) == ("red", 3, "draft")
    assert (request.server.vae, request.output.path) == ("v.safetensors", None)


@pytest.mark.parametrize("length", [{"frames": 40}, {"frames": None, "audio_duration": 2.5}])
def test_a_length_wins_over_full_as_it_did(tune: Path, length: dict[str, Any]) -> None:
    data = {"audio": str(tune), **REQUEST, **length, "full": True}
    assert shot_bounds(from_data(data), 60.0) == [0, 40]
