"""The command line: what it prints where, both vocabularies, and the seed's own script."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from command import REPO, SMALL, Outcome, events_of, files_below, finish, run_here, start
from soundreel import __version__
from soundreel.media.video import probe_video
from soundreel.planning import plan
from soundreel.render.naming import output_name
from soundreel.request import Request

Soundreel = Callable[..., Outcome]


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str]) -> Soundreel:
    def run(*arguments: str | os.PathLike[str]) -> Outcome:
        return run_here(capsys, *arguments)

    return run


def test_a_sound_alone_is_enough(soundreel: Soundreel, tune: Path, tmp_path: Path) -> None:
    done = soundreel(tune, *SMALL, "--frames", "8", "--output-dir", tmp_path)
    assert done.code == 0
    assert done.path.parent == tmp_path
    assert re.fullmatch(r"tune_64x64_8f_0\.5s_no_ref_draft_\d{8}_\d{6}\.mp4", done.path.name)
    assert files_below(tmp_path) == [done.path.name]


def test_engine_choice_is_said_in_one_line(soundreel: Soundreel, tune: Path, tmp_path: Path) -> None:
    done = soundreel("generate", tune, *SMALL, "--frames", "4", "--output-dir", tmp_path)
    assert [line for line in done.err.splitlines() if line.startswith("engine: draft (")]


def test_quiet_prints_the_path_only(soundreel: Soundreel, tune: Path, tmp_path: Path) -> None:
    done = soundreel("generate", tune, *SMALL, "--frames", "4", "-o", tmp_path / "a.mp4", "--quiet")
    assert (done.out, done.err) == (f"{tmp_path / 'a.mp4'}\n", "")


def test_json_progress_is_one_object_per_line(soundreel: Soundreel, tune: Path, tmp_path: Path) -> None:
    done = soundreel(
        "generate",
        tune,
        *SMALL,
        "--frames",
        "40",
        "--infer-frames",
        "16",
        "-o",
        tmp_path / "a.mp4",
        "--progress",
        "json",
    )
    events = done.events
    assert [events[0]["event"], events[-1]["event"]] == ["start", "result"]
    assert done.path == tmp_path / "a.mp4"
    assert events[-1]["path"] == str(tmp_path / "a.mp4")
    steps = [event for event in events if event["event"] == "progress" and event["stage"] == "render"]
    assert {event["clip"] for event in steps} == {1, 2, 3}
    assert steps[-1]["done"] == steps[-1]["total"] == 40
    assert all(event["eta_seconds"] >= 0 for event in steps if event["done"])


def test_both_vocabularies_give_the_same_plan(soundreel: Soundreel, tune: Path) -> None:
    ours = "--num-clip 2 --infer-frames 48 --steps 25 --guide-scale 4.0 --shift 3 --size 480x832 --seed 7 --prompt x"
    theirs = (
        "--num_clip 2 --infer_frames 48 --sample_steps 25 --sample_guide_scale 4.0 --sample_shift 3.0 "
        "--size 480*832 --base_seed 7 --positive x"
    )
    plans = [json.loads(soundreel("plan", tune, "--json", *words.split()).out) for words in (ours, theirs)]
    for planned in plans:
        del planned["estimated_seconds"]
    assert plans[0] == plans[1]
    assert plans[0]["frames"] == 2 * 48 - 3


def test_presets_yield_to_single_options(soundreel: Soundreel, tune: Path) -> None:
    planned = json.loads(soundreel("plan", tune, "--preset", "high", "--height", "576", "--json").out)
    assert (planned["width"], planned["height"]) == (1024, 576)


def test_plan_renders_nothing(
    soundreel: Soundreel, tune: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = soundreel("plan", tune, "--frames", "90")
    assert done.code == 0
    assert "90 frames at 16 fps" in done.out
    assert "sampled" in done.out
    assert files_below(tmp_path) == []


def test_info_shows_the_recipe(soundreel: Soundreel, tune: Path, tmp_path: Path) -> None:
    soundreel("generate", tune, *SMALL, "--frames", "5", "--seed", "9", "--prompt", "red", "-o", tmp_path / "a.mp4")
    told = json.loads(soundreel("info", tmp_path / "a.mp4", "--json").out)
    assert told["recipe"]["engine"] == "draft"
    assert told["recipe"]["request"]["seed"] == 9
    assert told["recipe"]["request"]["prompt"] == "red"
    assert (told["frames"], told["fps"]) == (5, 16.0)
    assert "a draft, not a model render" in soundreel("info", tmp_path / "a.mp4").out


def test_brackets_in_names_are_shown(soundreel: Soundreel, tune: Path, tmp_path: Path) -> None:
    (tmp_path / "song [live].flac").write_bytes(tune.read_bytes())
    soundreel(tmp_path / "song [live].flac", *SMALL, "--frames", "2", "-o", tmp_path / "a.mp4")
    assert "song [live].flac" in soundreel("info", tmp_path / "a.mp4").out


def test_info_on_a_foreign_video(soundreel: Soundreel, media: Path) -> None:
    told = soundreel("info", media / "bikes.mp4")
    assert told.code == 0
    assert "not made by soundreel" in told.out


def test_doctor_finds_this_machine_fit(soundreel: Soundreel) -> None:
    checks = json.loads(soundreel("doctor", "--json").out)["checks"]
    assert {check["name"] for check in checks if check["ok"]} >= {"python", "encoders", "engine draft"}


def test_demo_renders_with_and_without_a_picture(soundreel: Soundreel, tmp_path: Path) -> None:
    done = soundreel("demo", "--output-dir", tmp_path, "--frames", "6")
    assert done.code == 0
    assert [probe_video(line).frames for line in done.out.splitlines()] == [6, 6, 6]


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_names_the_commands(soundreel: Soundreel, word: str) -> None:
    done = soundreel(word)
    assert done.code == 0
    commands = (
        "generate",
        "resume",
        "redo",
        "unfinished",
        "plan",
        "storyboard",
        "interpolate",
        "join",
        "info",
        "doctor",
        "demo",
        "models",
    )
    assert all(re.search(rf"^\W*{command}\b", done.out, re.MULTILINE) for command in commands)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_jobs_is_another_name_of_unfinished(
    soundreel: Soundreel, tune: Path, tmp_path: Path, options: list[str]
) -> None:
    soundreel("generate", tune, *SMALL, "--frames", "4", "-o", tmp_path / "a.mp4", "--keep-work")
    told = soundreel("unfinished", tmp_path, *options)
    assert "finished, kept" in told.out
    assert soundreel("jobs", tmp_path, *options) == told


@pytest.mark.parametrize("words", [["--version"], ["-V"], ["-v"], ["--verbose"]])
def test_version(soundreel: Soundreel, words: list[str]) -> None:
    assert soundreel(*words).out == f"soundreel {__version__}\n"


@pytest.mark.parametrize("place", [0, 3])
def test_verbose_tells_what_runs_and_every_step(soundreel: Soundreel, tune: Path, tmp_path: Path, place: int) -> None:
    words = [tune, *SMALL, "--frames", "12", "--infer-frames", "4", "--engine", "draft", "-o", tmp_path / "a.mp4"]
    quieter = soundreel(*words).err.splitlines()
    words.insert(place, "-v")
    first, *told = soundreel(*words, "--no-resume").err.splitlines()
    assert re.match(rf"soundreel {__version__}, Python \d", first)
    assert len(told) > len(quieter) + 3


def test_verbose_tells_how_an_error_came(soundreel: Soundreel, media: Path, tmp_path: Path) -> None:
    (tmp_path / "noise.mp3").write_bytes(bytes(range(256)) * 40)
    *how, last = soundreel(tmp_path / "noise.mp3", "-v").err.splitlines()
    assert last.startswith("soundreel: ")
    assert "Traceback (most recent call last):" in how
    assert len(soundreel(tmp_path / "noise.mp3").err.splitlines()) == 1


def test_every_command_knows_how_much_to_tell(soundreel: Soundreel, tune: Path, tmp_path: Path) -> None:
    """`plan` in front of a command line that renders is understood, whatever that line says of its log."""
    video = soundreel(tune, *SMALL, "--frames", "4", "--engine", "draft", "-o", tmp_path / "a.mp4", "-q").path
    for words in (
        ["plan", tune, "--engine", "draft"],
        ["info", video],
        ["doctor"],
        ["unfinished", tmp_path],
        ["clean", tmp_path],
        ["models", "list"],
    ):
        assert soundreel(*words, "-q").err == ""
        (told,) = soundreel(*words, "-v").err.splitlines()
        assert told.startswith(f"soundreel {__version__}, Python ")


def test_a_quiet_demo_prints_its_paths(soundreel: Soundreel, tmp_path: Path) -> None:
    done = soundreel("demo", "--frames", "2", "--output-dir", tmp_path, "-q")
    assert (len(done.out.splitlines()), done.err) == (3, "")


def test_options_may_come_first(soundreel: Soundreel, tune: Path, tmp_path: Path) -> None:
    done = soundreel("--frames", "4", *SMALL, "--engine", "draft", "-o", tmp_path / "a.mp4", tune)
    assert (done.code, done.path) == (0, tmp_path / "a.mp4")


@pytest.mark.parametrize("words", [[], ["models"]])
def test_without_a_command_there_is_help_and_nothing_on_standard_output(soundreel: Soundreel, words: list[str]) -> None:
    done = soundreel(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("usage: soundreel")


class TestCompletion:
    """In bash, as `--install-completion` has it."""

    @pytest.fixture
    def bash(self, tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
        program = tmp_path / "bin" / "soundreel"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m soundreel "$@"\n')
        program.chmod(0o755)
        environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{program.parent}:{os.environ['PATH']}"}
        if shutil.which("bash") is None:
            pytest.skip("there is no bash")

        def run(script: str) -> subprocess.CompletedProcess[str]:
            words = ["bash", "--norc", "-c", f"{script}\nexit $?"]  # or bash would become the command itself
            return subprocess.run(words, env=environment, capture_output=True, text=True, check=True)

        return run

    def test_it_is_installed_and_completes(
        self, bash: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path
    ) -> None:
        assert "bash completion installed in" in bash("soundreel --install-completion").stdout
        script = f"""
            source {tmp_path}/.bashrc
            complete_words() {{
                COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
                _soundreel_completion soundreel
                echo "${{COMPREPLY[*]}}"
            }}
            complete_words soundreel inter
            complete_words soundreel song.mp3 --engine ''
            complete_words soundreel plan song.mp3 --preset l
            complete_words soundreel models ''
            complete -p soundreel
        """
        commands, engines, presets, models, how = bash(script).stdout.splitlines()
        assert (commands, engines, presets) == ("interpolate", "auto native comfyui draft", "long")
        assert models == "list download verify"
        assert "-o default" in how, "names of files are completed as ever"

    def test_it_is_shown(self, bash: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
        assert bash("soundreel --show-completion").stdout.rstrip().endswith(" soundreel")


def test_a_misspelt_command_is_not_taken_for_a_sound(soundreel: Soundreel) -> None:
    done = soundreel("genrate")
    assert done.code == 2
    assert "genrate" in done.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("redo a.mp4 1 --seed x", "seed is 'x'"),
        ("interpolate a.mp4 --fps 24.5", "--fps is '24.5'"),
        ("interpolate a.mp4 --factor two", "--factor is 'two'"),
        ("interpolate a.mp4 --crf best", "--crf is 'best'"),
        ("demo --frames few", "frames is 'few'"),
    ],
)
def test_a_number_that_is_none_is_named_in_one_line(soundreel: Soundreel, words: str, says: str) -> None:
    done = soundreel(*words.split())
    assert (done.code, done.err) == (2, f"soundreel: {says}: expected a whole number\n")


def test_importing_the_package_loads_no_heavy_library() -> None:
    heavy = ("av", "torch", "numpy", "librosa", "cv2")
    code = f"import sys, soundreel, soundreel.cli.app; print([m for m in {heavy} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def test_ctrl_c_ends_with_130_and_leaves_nothing(tune: Path, tmp_path: Path) -> None:
    for stop in (signal.SIGINT, signal.SIGTERM):
        process = start(tune, *SMALL, "--frames", "4000", "--output-dir", tmp_path, "--progress", "json")
        assert any(event.get("stage") == "render" for event in events_of(process))
        process.send_signal(stop)
        done = finish(process)
        assert done.code == 130
        assert done.events[-1] == {
            "event": "error", "message": "cancelled, nothing was saved", "exit_code": 130, "field": None
        }  # fmt: skip
        assert files_below(tmp_path) == []


SEED_SCRIPT = (str(REPO / "scripts" / "generate_wan22_sound_video.py"),)


def seed_script(folder: Path, words: str) -> Outcome:
    return finish(start(*shlex.split(words), program=SEED_SCRIPT, cwd=folder))


@pytest.fixture
def seed_folder(tmp_path: Path, tune: Path, cover: Path) -> Path:
    (tmp_path / "input").mkdir()
    for name in ("music", "song", "podcast"):
        (tmp_path / "input" / f"{name}.flac").write_bytes(tune.read_bytes())
    (tmp_path / "input" / "album-cover.png").write_bytes(cover.read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (
            "input/music.flac --engine draft --frames 9",
            r"music_832x1216_9f_0\.6s_no_ref_s2v-draft_\d{8}_\d{6}\.mp4",
        ),
        (
            'input/song.flac --ref-image input/album-cover.png --frames 161 --width 64 --height 96 --positive "vibrant '
            'colors, dynamic movement" --negative "static, dull"',
            r"song_64x96_161f_10\.1s_with_ref_s2v-draft_\d{8}_\d{6}\.mp4",
        ),
        (
            "input/podcast.flac --audio-start 3 --audio-duration 2 --frames 33 --width 64 --height 96 --settings calm "
            "--timeout 600 --url http://localhost:8188 --crf 30",
            r"podcast_64x96_33f_2\.1s_no_ref_calm-draft_\d{8}_\d{6}\.mp4",
        ),
        (
            "input/music.flac --frames 20 --interpolate film --crf 18 --width 64 --height 96",
            r"music_64x96_20f_1\.2s_no_ref_s2v-draft_\d{8}_\d{6}\.mp4",
        ),
    ],
)
def test_the_seeds_commands_run_and_name_files_as_promised(seed_folder: Path, words: str, name: str) -> None:
    done = seed_script(seed_folder, words)
    assert done.code == 0, done.err
    assert done.path.parent == Path("output/video")
    assert re.fullmatch(name, done.path.name)
    video = probe_video(seed_folder / done.path)
    frames = int(re.search(r"_(\d+)f_", done.path.name)[1])  # type: ignore[index]
    assert (video.frames, video.fps) == ((2 * frames, 32) if "film" in words else (frames, 16))


@pytest.mark.parametrize(
    ("engine", "settings", "tag"),
    [
        ("comfyui", "s2v", "s2v"),
        ("native", None, "native"),
        ("draft", None, "draft"),
        ("draft", "s2v", "s2v-draft"),
        ("draft", "draft", "draft"),
    ],
)
def test_a_draft_never_has_the_name_of_a_model_render(engine: str, settings: str | None, tag: str) -> None:
    planned = plan(Request(audio="music.mp3", frames=77, width=832, height=1216, settings=settings), 10.0)
    name = output_name(planned, engine, datetime(2026, 1, 2, 3, 4, 5))
    assert name == f"music_832x1216_77f_4.8s_no_ref_{tag}_20260102_030405.mp4"


def test_two_renders_in_one_second_get_two_names(seed_folder: Path) -> None:
    words = "input/music.flac --engine draft --frames 2 --width 64 --height 64 --seed {}"
    processes = [start(*shlex.split(words.format(k)), program=SEED_SCRIPT, cwd=seed_folder) for k in range(3)]
    paths = {finish(process).path for process in processes}
    assert len(paths) == 3
    assert all(probe_video(seed_folder / path).frames == 2 for path in paths)
