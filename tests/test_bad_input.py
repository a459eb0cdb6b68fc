"""Bad input gets one clear line, its exit code, and leaves nothing behind. Odd but good input works."""

import json
import os
import resource
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import SMALL, Outcome, files_below, finish, run_here, start
from draft_renders import Soundreel
from media_files import write_sound
from soundreel.media.audio import read_model_sound
from soundreel.media.video import probe_video
from weight_files import OFFICIAL, needs_golden

RATE = 16_000


@pytest.fixture
def attempt(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Outcome]:
    """Run `soundreel generate …` into tmp_path/out."""

    def run(*arguments: str | os.PathLike[str]) -> Outcome:
        return run_here(capsys, "generate", *SMALL, "--output-dir", tmp_path / "out", *arguments)

    return run


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str], tune: Path) -> Soundreel:
    return Soundreel(capsys, tune)


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    path = tmp_path / "tone.wav"
    write_sound(path, sine(2.0), RATE)
    return path


def sine(seconds: float) -> np.ndarray:
    times = np.arange(round(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * 220 * times)).astype(np.float32)[:, None]


def assert_refused(done: Outcome, code: int, says: str, folder: Path) -> None:
    lines = done.err.splitlines()
    assert done.code == code, done.err
    assert lines[-1].startswith("soundreel: ")
    assert says in lines[-1]
    assert "Traceback" not in done.err
    assert done.out == ""
    assert not (folder / "out").exists() or files_below(folder / "out") == []


def make_directory(path: Path) -> None:
    path.mkdir()


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def make_text(path: Path) -> None:
    path.write_text("These are not the sounds you are looking for.\n" * 200)


def make_noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(20_000))


def make_picture(path: Path) -> None:
    Image.new("RGB", (64, 64), "navy").save(path, format="PNG")


@pytest.mark.parametrize(
    ("make", "code", "says"),
    [
        (lambda path: None, 2, "song.mp3"),
        (make_directory, 2, "directory"),
        (make_empty, 2, "empty"),
        (make_text, 3, "song.mp3"),
        (make_noise, 3, "song.mp3"),
        (make_picture, 3, "song.mp3"),
    ],
)
def test_a_sound_that_is_none(
    attempt: Callable[..., Outcome], tmp_path: Path, make: Callable[[Path], None], code: int, says: str
) -> None:
    make(tmp_path / "song.mp3")
    assert_refused(attempt(tmp_path / "song.mp3"), code, says, tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--audio-start 5", "2.000 s"),
        ("--audio-start 2", "2.000 s"),
        ("--audio-start -1", "audio_start is -1"),
        ("--audio-start nan", "finite"),
        ("--audio-duration 0", "audio_duration is 0"),
        ("--audio-duration -2", "audio_duration is -2"),
        ("--audio-duration inf", "finite"),
        ("--frames 0", "frames is 0"),
        ("--frames -7", "frames is -7"),
        ("--frames 8000000", "8,000,000 frames are 100,001 clips of 80: expected at most 99,999"),
        (f"--frames 1{'0' * 20}", f"frames is 1{'0' * 20}: expected at most 1,638,383,616"),
        (f"--frames 1{'0' * 308}", f"frames is 1{'0' * 79}… (309 characters): expected at most 1,638,383,616"),
        ("--frames 1e308", "frames is '1e308': expected a whole number"),
        ("--num-clip 100000", "num_clip is 100000: expected at most 99,999"),
        (f"--infer-frames 4{'0' * 300} --clip-split full", "(301 characters): expected at most 16,384"),
        ("--audio-start 1e308", "audio_start is 1e+308: expected at most 1,000,000,000"),
        ("--cut 1e308", "cut is 1e+308: expected at most 1,000,000,000"),
        ("--cut 1e9 --full", "--cut is 1e+09 s: expected a time inside the video, which shows 0 to 2 s of it"),
        ("--audio-duration 1e9", "expected at most 99,999"),
        ("--audio-duration 1e300", "audio_duration is 1e+300: expected at most"),
        ("--steps 99999999", "steps is 99999999: expected at most 1,000"),
        ("--full --frames 48", "--full and --frames 48 are two lengths: give one of them"),
        ("--full --audio-duration 1.5", "--full and --audio-duration 1.5 are two lengths: give one of them"),
        ("--frames 48 --audio-duration 1", "--frames 48 (3.00 s) and --audio-duration 1 are two lengths: give one"),
        ("--frames 16 --audio-duration 2", "--frames 16 (1.00 s) and --audio-duration 2 are two lengths: give one"),
        ("--seed -2", "seed is -2: expected at least 0, or -1 to draw one"),
        ("--engine draft --pose-video nowhere.mp4", "nowhere.mp4"),
        ("--width 100", "nearest: 96 or 112"),
        ("--height 70", "nearest: 64 or 80"),
        ("--width 16384 --height 16384", "GB"),
        ("--size big", "480x832"),
        ("--infer-frames 50", "multiple of 4"),
        ("--crf 99", "at most 51"),
        ("--preset best", "quick, balanced, high, long"),
        ("--engine warp", "'warp'"),
        ("--interpolate magic", "'magic'"),
        ("--solver bogus", "solver is 'bogus': expected unipc, dpm++ or euler"),
        ("--memory all", "memory is 'all': expected auto, high, or a size as 24gb, 16gb, 20.5gb"),
        ("--clip-split odd", "clip_split is 'odd': expected even or full"),
        ("--cfg-interval 0.5", "cfg_interval is ['0.5']: expected 2 values"),
        ("--output video.avi", ".mp4"),
        ("--output .", ".mp4"),
        ("--ref-image nowhere.png", "nowhere.png"),
    ],
)
def test_options_that_cannot_be(
    attempt: Callable[..., Outcome], tone: Path, tmp_path: Path, options: str, says: str
) -> None:
    assert_refused(attempt(tone, *options.split()), 2, says, tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--frames many", "frames is 'many': expected a whole number"),
        ("--guide-scale much", "guide_scale is 'much': expected a number"),
        ("--audio-start 1:x", "audio_start is '1:x': expected seconds, or a time as 1:23.5"),
    ],
)
def test_values_of_the_wrong_kind_are_named(
    attempt: Callable[..., Outcome], tone: Path, tmp_path: Path, options: str, says: str
) -> None:
    done = attempt(tone, *options.split())
    assert_refused(done, 2, says, tmp_path)
    assert len(done.err.splitlines()) == 1


@needs_golden
@pytest.mark.parametrize("engine", ["draft", "native"])
def test_a_lora_that_is_not_there_is_missed_by_every_engine(
    attempt: Callable[..., Outcome], tone: Path, tmp_path: Path, engine: str
) -> None:
    words = ("--engine", engine, "--device", "cpu", "--models", OFFICIAL, "--lora", "nowhere.safetensors:0.5")
    assert_refused(attempt(tone, *words), 4, "no such LoRA: 'nowhere.safetensors'", tmp_path)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("generate ''", "audio is '': expected a path"),
        ("tone.wav --ref-image ''", "ref_image is '': expected a path"),
        ("tone.wav -o ''", "output is '': expected a path"),
        ("tone.wav --output-dir ''", "output_dir is '': expected a path"),
        ("info ''", "'' is no name: expected a video file"),
        ("interpolate ''", "'' is no name: expected a video file"),
        ("resume ''", "'' is no name: expected a folder"),
        ("redo '' 1", "'' is no name: expected a folder"),
        ("clean ''", "'' is no name: expected a folder"),
        ("-", "'-' stands for no sound: standard input is not read, save it to a file first"),
        (
            "https://ann:hush@youtu.be/abc",
            "'https://youtu.be/abc' is an address, and only files are read: download it first, for example with yt-dlp",
        ),
        ("info https://x.org/a.mp4", "'https://x.org/a.mp4' is an address, and only files are read: download it first"),
        (
            "tone.wav --ref-image file:///a.png",
            "'file:///a.png' is an address, and only files are read: download it first",
        ),
        ("tone.wav --output-dir tone.wav", "--output-dir is 'tone.wav': 'tone.wav' is a file, expected a folder"),
        ("tone.wav -o tone.wav/a.mp4", "--output is '{here}/tone.wav': '{here}/tone.wav' is a file, expected a folder"),
        (
            "tone.wav --header 'Authorization: Bearer …'",
            "a --header is not understood: expected 'Name: value' in one line of ASCII, with no … in it",
        ),
        ("genrate", "no such command 'genrate' (did you mean 'generate'?); soundreel --help says what there is"),
        ("tone.wav --frmes 4", "no such option: --frmes (Possible options: --frames, "),
        ("models fetch", "no such command 'fetch'; soundreel models --help says what there is"),
        (
            "tone.wav --progress loud",
            "invalid value for '--progress': 'loud' is not one of 'auto', 'bar', 'lines', 'json'",
        ),
    ],
)
def test_what_was_meant_otherwise(
    capsys: pytest.CaptureFixture[str],
    tone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_here(capsys, *shlex.split(words))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"soundreel: {says.replace('{here}', str(tmp_path))}")
    assert len(done.err.splitlines()) == 1
    assert files_below(tmp_path) == ["tone.wav"]


@pytest.mark.parametrize("option", ["--output-dir", "--output", "--work-dir"])
@pytest.mark.parametrize("place", ["/proc/no-such-folder", "read-only"])
def test_a_folder_that_cannot_be_written_is_the_one_that_was_named(
    attempt: Callable[..., Outcome], tone: Path, tmp_path: Path, option: str, place: str
) -> None:
    """And the option that names another; never a folder of ours below it."""
    if place.startswith("/") and not Path(place).parent.is_dir():
        pytest.skip("there is no /proc")
    folder = tmp_path / place
    if place == "read-only":
        folder.mkdir(mode=0o500)
        if os.access(folder, os.W_OK):
            pytest.skip("nothing is read-only for this user")
    done = attempt(tone, "--frames", "2", option, folder / "a.mp4" if option == "--output" else folder)
    assert_refused(done, 2, f"cannot write into '{folder}' (", tmp_path)
    assert done.err.endswith(f"): choose another folder with {option}\n")


@pytest.mark.parametrize("output", [["--output-dir", "below"], ["-o", "below/a.mp4"]])
def test_neither_can_it_where_clips_go_elsewhere(
    attempt: Callable[..., Outcome], tone: Path, tmp_path: Path, output: list[str]
) -> None:
    option, place = output
    done = attempt(tone, option, tone / place, "--work-dir", tmp_path / "work")
    assert_refused(done, 2, f"{str(tone)!r} is a file, expected a folder", tmp_path)
    assert files_below(tmp_path) == ["tone.wav"]


IN_A_REMOVED_FOLDER = [
    ["generate", "{tone}", "-o", "{folder}/a.mp4"],
    ["generate", "tone.wav"],
    ["plan", "{tone}"],
    ["interpolate", "{tone}"],
    ["demo"],
    ["redo", "a.mp4", "1"],
    ["resume", "work"],
]


@pytest.mark.parametrize("words", IN_A_REMOVED_FOLDER, ids=" ".join)
def test_a_folder_that_is_removed_under_the_command(tone: Path, tmp_path: Path, words: list[str]) -> None:
    """Its own process: no path of this one's is spoiled."""
    removed = tmp_path / "removed"
    removed.mkdir()
    shell = (
        "import os, runpy, sys; os.chdir(sys.argv.pop(1)); os.rmdir(os.getcwd());"
        "runpy.run_module('soundreel', run_name='__main__')"
    )
    arguments = [word.format(tone=tone, folder=tmp_path) for word in words]
    done = finish(start(removed, *arguments, program=("-c", shell)))
    line = done.err.splitlines()[-1]
    assert done.code in {2, 3}
    assert line.startswith("soundreel: ")
    assert not line.endswith("shows where)")
    assert files_below(tmp_path) == ["tone.wav"]


@pytest.mark.parametrize(
    "words",
    [
        "{long}",
        "generate {long}",
        "generate {tone} -o {long}/a.mp4",
        "generate {tone} --output-dir {long}",
        "generate {tone} --work-dir {long}",
        "generate {tone} --engine native --models {long}",
        "generate {tone} --engine native --lora {long}",
        "generate {tone} --interpolate rife --interpolate-weights {long}",
        "generate {tone} --pose-video {long}",
        "generate {tone} --export-workflow {long}",
        "generate --recipe {long}",
        "interpolate {long}",
        "resume {long}",
        "redo {long} 1",
        "reprint {long}",
        "unfinished {long}",
        "clean {long}",
        "info {long}",
        "models list --models {long}",
        "models verify --models {long}",
    ],
)
def test_a_path_that_is_too_long_is_never_a_bug(
    capsys: pytest.CaptureFixture[str], tone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_here(capsys, *words.format(tone=tone, long="x" * 300).split())
    assert done.code in {2, 3, 4, 5}
    (line,) = done.err.splitlines()
    assert "File name too long" in line
    assert files_below(tmp_path) == ["tone.wav"]


def test_a_reference_image_that_is_none(attempt: Callable[..., Outcome], tone: Path, tmp_path: Path) -> None:
    make_text(tmp_path / "cover.png")
    assert_refused(attempt(tone, "--ref-image", tmp_path / "cover.png"), 3, "cover.png", tmp_path)


@pytest.mark.parametrize("mode", ["CMYK", "I;16", "P", "LA", "1"])
def test_unusual_pictures_work(attempt: Callable[..., Outcome], tone: Path, tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("cover.jpg" if mode == "CMYK" else "cover.png")
    Image.new(mode, (90, 70)).save(path)
    assert attempt(tone, "--frames", "2", "--ref-image", path).code == 0


def test_an_animated_picture_gives_its_first_frame_and_says_so(
    attempt: Callable[..., Outcome], tone: Path, tmp_path: Path
) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "cover.gif", save_all=True, append_images=frames[1:])
    done = attempt(tone, "--frames", "2", "--ref-image", tmp_path / "cover.gif")
    assert done.code == 0
    assert "note: cover.gif is animated: its first frame is used" in done.err


def test_a_truncated_mp3_renders_what_decodes_and_says_so(attempt: Callable[..., Outcome], tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.mp3", tmp_path / "cut.mp3"
    write_sound(whole, sine(6.0), RATE)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    done = attempt(cut, "--full")
    assert done.code == 0
    assert "note: the sound file is cut off" in done.err
    assert 1.5 < probe_video(done.path).seconds < 2.5


def test_a_silent_file_works(attempt: Callable[..., Outcome], tmp_path: Path) -> None:
    write_sound(tmp_path / "silence.wav", np.zeros((RATE, 1), np.float32), RATE)
    done = attempt(tmp_path / "silence.wav")
    assert (done.code, probe_video(done.path).frames) == (0, 16)


def all_of(value: float) -> Callable[[np.ndarray], None]:
    def fill(sound: np.ndarray) -> None:
        sound[:] = value

    return fill


def louder(times: float) -> Callable[[np.ndarray], None]:
    def multiply(sound: np.ndarray) -> None:
        sound *= np.float32(times)

    return multiply


def one_nan_beside_a_huge_one(sound: np.ndarray) -> None:
    sound[8000:8002, 0] = np.nan, 1e20


def bits_by_chance(sound: np.ndarray) -> None:
    sound[:, 0] = np.frombuffer(np.random.default_rng(0).bytes(sound.nbytes), np.float32)


LOST = "samples of the sound are not numbers, or beyond any level: they become silence"
BEYOND = "the sound goes {} dB beyond full scale: in the video it is clipped"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("spoil", "is_silent", "notes"),
    [
        (all_of(1e30), True, [f"32,000 {LOST}"]),
        (all_of(np.nan), True, [f"32,000 {LOST}"]),
        (all_of(-np.inf), True, [f"32,000 {LOST}"]),
        (one_nan_beside_a_huge_one, False, [f"2 {LOST}"]),
        (bits_by_chance, False, [f"12,311 {LOST}", BEYOND.format(187)]),
        (louder(32768), False, [BEYOND.format(84)]),
        (louder(1e-40), True, []),
        (louder(3), False, []),
    ],
)
def test_samples_that_are_no_sound_become_silence_and_it_is_said(
    soundreel: Soundreel, tmp_path: Path, spoil: Callable[[np.ndarray], None], is_silent: bool, notes: list[str]
) -> None:
    sound = sine(2.0)
    spoil(sound)
    path, video = write_sound(tmp_path / "float.wav", sound, RATE, "pcm_f32le"), tmp_path / "a.mp4"
    drawn = soundreel.draw("generate", path, *SMALL, "--engine", "draft", "-o", video)
    start, *_, result = drawn.outcome.events
    recipe = json.loads(soundreel("info", video, "--json").out)["recipe"]
    assert start["notes"] == result["notes"] == recipe["notes"] == notes
    assert (np.abs(read_model_sound(video)).max() < 1e-3) == is_silent


def test_a_note_on_one_sample_is_shown_to_people(attempt: Callable[..., Outcome], tmp_path: Path) -> None:
    sound = sine(1.0)
    sound[100] = np.nan
    done = attempt(write_sound(tmp_path / "float.wav", sound, RATE, "pcm_f32le"), "--frames", "2")
    assert "note: 1 sample of the sound is not a number, or beyond any level: it becomes silence" in done.err


def test_more_frames_than_sound_is_said(attempt: Callable[..., Outcome], tone: Path) -> None:
    done = attempt(tone, "--frames", "64")
    assert "note: the sound ends at 2.00 s, the video at 4.00 s: 2.00 s of silence follow" in done.err
    assert probe_video(done.path).frames == 64


NAMES = ["with space", 'it\'s "quoted"', "émoji 🎷🎶", "-o", "--frames", "a:b%03d", "x" * 250, "音" * 80]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names(attempt: Callable[..., Outcome], tone: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(tone, tmp_path / f"{name}.wav")
    done = attempt("--frames", "2", "--", tmp_path / f"{name}.wav")
    assert done.code == 0, done.err
    assert probe_video(done.path).frames == 2
    assert len(done.path.name.encode()) <= 255


@pytest.mark.parametrize("name", ["-o.wav", "--frames.wav"])
def test_leading_dashes_relative(
    attempt: Callable[..., Outcome], tone: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(tone, name)
    assert attempt("--frames", "2", "--", name).code == 0


def test_a_name_longer_than_file_systems_allow(attempt: Callable[..., Outcome], tmp_path: Path) -> None:
    assert_refused(attempt("x" * 300 + ".mp3"), 2, "name", tmp_path)


def test_a_full_disk_is_named_and_leaves_nothing(tone: Path, tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes every write past 4 kB fail, as a full disk does."""
    out = tmp_path / "out"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    done = finish(start("generate", tone, "--output-dir", out, "--size", "128x128", preexec_fn=limit))
    assert done.code == 3
    assert str(out) in done.err.splitlines()[-1]
    assert files_below(out) == []


def test_an_output_name_is_replaced_only_by_a_whole_video(
    attempt: Callable[..., Outcome], tone: Path, tmp_path: Path
) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(b"precious")
    assert attempt(tone, "--audio-start", "99", "-o", video).code == 2
    assert video.read_bytes() == b"precious"
    assert attempt(tone, "--frames", "3", "-o", video).code == 0
    assert probe_video(video).frames == 3


@pytest.mark.parametrize(
    "megabytes", [400, 700, *(pytest.param(size, marks=pytest.mark.long) for size in (100, *range(225, 1000, 50)))]
)
def test_little_address_space_ends_in_a_message(tone: Path, tmp_path: Path, megabytes: int) -> None:
    """Never in a crash of a library, whose threads get no stack."""
    size, out = megabytes * 1_000_000, tmp_path / "out"
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = finish(
        start(
            *("generate", tone, *SMALL, "--engine", "draft", "--output-dir", out),
            env=environment,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size)),
        )
    )
    assert done.code in ({5} if megabytes < 600 else {0, 3, 5}), done
    assert "Traceback" not in done.err
    if done.code != 0:
        last = done.err.splitlines()[-1]
        assert last.startswith("soundreel: ")
        assert "GB of address space (ulimit -v)" in last
        assert done.out == ""
        assert files_below(out) == []


def test_memory_that_is_not_there_is_no_bug(
    attempt: Callable[..., Outcome], tone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soundreel.pipeline.publish", lambda *_: np.empty(2**60, np.uint8))
    done = attempt(tone, "--engine", "draft", "--infer-frames", "12")
    assert done.code == 5
    last = done.err.splitlines()[-1]
    assert last.startswith("soundreel: there is not enough memory (Unable to allocate 1.00 EiB")
    assert "clips are kept, go on with: soundreel resume" in last


def test_a_damaged_size_in_a_sound_brings_no_traceback(attempt: Callable[..., Outcome], tmp_path: Path) -> None:
    """It leads the reader to a place that no file has; what can be decoded is rendered."""
    write_sound(tmp_path / "song.wma", np.repeat(sine(1.0), 2, axis=1), 48_000)
    content = bytearray((tmp_path / "song.wma").read_bytes())
    content[112:120] = (2**63 - 1).to_bytes(8, "little")
    (tmp_path / "song.wma").write_bytes(content)
    done = attempt(tmp_path / "song.wma", "--engine", "draft")
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    assert "PyAV" not in done.err
