"""scripts/generate.py: the official script's S2V command line, its defaults, and what it says where it cannot."""

import importlib.util
import os
import shlex
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from command import REPO, Outcome, finish, run_script_here, start
from soundreel.errors import EngineError, InputError
from soundreel.media.video import probe_video
from soundreel.planning import plan
from soundreel.request import AvAlign, ClipSplit, RefFit, Request, Solver

SCRIPT = REPO / "scripts" / "generate.py"

FULL_COMMAND = (
    "--task s2v-14B --ckpt_dir model --size 480*832 --num_clip 1 --infer_frames 80 --sample_steps 30 "
    "--sample_guide_scale 4.5 --sample_shift 3.0 --sample_solver dpm++ --base_seed 7 --prompt 'she sings' "
    "--audio a.wav --pose_video p.mp4 --start_from_ref --offload_model True --convert_model_dtype --t5_cpu "
    "--dit_fsdp --t5_fsdp --ulysses_size 1 --save_file out.mp4"
)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("official_door", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def request(script: ModuleType, line: str) -> Request:
    built = script.build_request(script.build_parser().parse_args(shlex.split(line)))
    assert isinstance(built, Request)
    return built


def picture(path: Path, width: int, height: int) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def run(*arguments: str | os.PathLike[str], cwd: Path, **environment: str) -> Outcome:
    program = (str(SCRIPT),)
    return finish(start(*arguments, program=program, cwd=cwd, env=os.environ | environment))


# options


def test_every_option_of_the_official_command_line(script: ModuleType, tmp_path: Path) -> None:
    image = picture(tmp_path / "i.png", 720, 1280)
    wanted = Request(
        audio="a.wav",
        ref_image=str(image),
        prompt="she sings",
        full=True,
        num_clip=1,
        width=448,
        height=832,
        infer_frames=80,
        clip_split=ClipSplit.FULL,
        seed=7,
        pose_video="p.mp4",
        start_from_ref=True,
        ref_fit=RefFit.REFERENCE,
        av_align=AvAlign.SOUND,
        steps=30,
        guide_scale=4.5,
        shift=3.0,
        solver=Solver.DPMPP,
        engine="native",
        models="model",
        output="out.mp4",
    )
    assert request(script, f"{FULL_COMMAND} --image {image}") == wanted


def test_the_official_defaults(script: ModuleType) -> None:
    made = request(script, "--audio a.wav")
    sampling = made.sampling
    assert (sampling.steps, sampling.shift, sampling.guide_scale, sampling.solver) == (40, 3.0, 4.5, Solver.UNIPC)
    assert (sampling.infer_frames, made.window.num_clip, made.ref_image) == (80, None, None)
    assert made.prompt is not None
    assert made.prompt.startswith("Summer beach vacation style, a white cat")
    assert (made.width, made.height) == (1280, 720)


def test_a_name_is_made_of_the_options(script: ModuleType) -> None:
    made = request(script, "--audio a.wav --size 1024*704 --prompt 'a b/c'")
    name = str(made.output.path)
    assert name.startswith("s2v-14B_1024*704_1_a_b_c_")
    assert name.endswith(".mp4")


def test_a_draft_has_no_name_of_a_model_render(script: ModuleType) -> None:
    made = request(script, "--audio a.wav --size 480*832 --prompt x --engine draft")
    assert str(made.output.path).startswith("s2v-14B-draft_480*832_1_x_")
    with pytest.raises(SystemExit):  # `auto` may end in either
        request(script, "--audio a.wav --engine auto")


def test_no_seed_draws_one(script: ModuleType) -> None:
    seeds = {request(script, "--audio a.wav").seed for _ in range(4)}
    assert len(seeds) > 1
    assert all(seed >= 0 for seed in seeds)


@pytest.mark.parametrize(
    ("size", "area", "expected"),
    [
        ((720, 1280), "480*832", (448, 832)),
        ((480, 832), "480*832", (448, 832)),
        ((832, 1104), "1024*704", (704, 960)),
        ((1280, 720), "1280*720", (1280, 704)),
        ((70, 70), "480*832", (128, 128)),
        ((64, 64), "480*832", (64, 64)),
    ],
)
def test_size_is_an_area_and_the_picture_gives_the_proportions(
    script: ModuleType, tmp_path: Path, size: tuple[int, int], area: str, expected: tuple[int, int]
) -> None:
    made = request(script, f"--audio a.wav --size {area} --image {picture(tmp_path / 'i.png', *size)}")
    assert (made.width, made.height) == expected


def test_clips_are_full_and_as_many_as_asked_for_or_as_the_sound_needs(script: ModuleType) -> None:
    capped = plan(request(script, "--audio a.wav --num_clip 2 --infer_frames 48"), 60.0)
    assert [(clip.size, clip.frames) for clip in capped.clips] == [(48, 45), (48, 48)]
    whole = plan(request(script, "--audio a.wav --infer_frames 48"), 10.0)
    assert [clip.size for clip in whole.clips] == [48] * 4
    assert whole.frames == 160


def test_av_align_reference(script: ModuleType) -> None:
    assert request(script, "--audio a.wav --av_align reference").guide.av_align is AvAlign.REFERENCE


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--task t2v-A14B --audio a.wav", "--task is 't2v-A14B': expected s2v-14B"),
        ("", "--audio is missing"),
        ("--enable_tts", "--enable_tts is not part of soundreel: speak the text elsewhere"),
        ("--audio a.wav --use_prompt_extend", "--use_prompt_extend is not part of soundreel"),
        ("--audio a.wav --infer_frames 30", "infer_frames is 30: expected a multiple of 4"),
    ],
)
def test_wrong_options_are_explained(script: ModuleType, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        request(script, line)


@pytest.mark.parametrize(
    ("line", "processes", "gpus", "parallel"),
    [
        ("", 1, None, "auto"),
        ("--dit_fsdp --t5_fsdp", 2, "2", "auto"),
        ("--dit_fsdp --t5_fsdp --ulysses_size 2", 2, "2", "tokens"),
        ("--ulysses_size 4", 1, "4", "tokens"),
    ],
)
def test_as_many_gpus_as_processes(
    script: ModuleType, line: str, processes: int, gpus: str | None, parallel: str
) -> None:
    options = script.build_parser().parse_args(["--audio", "a.wav", *shlex.split(line)])
    compute = script.build_request(options, processes).compute
    assert (compute.gpus, compute.parallel) == (gpus, parallel)


@pytest.mark.parametrize(("size", "processes"), [(3, 2), (2, 4), (0, 1)])
def test_ulysses_size_has_to_be_the_world_size(script: ModuleType, size: int, processes: int) -> None:
    options = script.build_parser().parse_args(["--audio", "a.wav", "--ulysses_size", str(size)])
    with pytest.raises(
        InputError,
        match=rf"--ulysses_size is {size}, and {processes} process(es were| was) started: it should be equal to the",
    ):
        script.build_request(options, processes)


def test_processes_on_several_hosts_are_refused(script: ModuleType) -> None:
    assert script.count_processes({}) == 1
    assert script.count_processes({"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}) == 2
    with pytest.raises(EngineError, match="4 processes on several hosts"):
        script.count_processes({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"})


# whole runs


def test_the_command_line_with_the_draft_engine_needs_no_model(tune: Path, tmp_path: Path) -> None:
    image = picture(tmp_path / "i.png", 64, 64)
    options = "--engine draft --num_clip 1 --infer_frames 8 --offload_model True --t5_cpu --base_seed 1"
    done = run(*options.split(), "--image", image, "--audio", tune, "--save_file", "v.mp4", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.out == f"{tmp_path / 'v.mp4'}\n"
    assert probe_video(tmp_path / "v.mp4").frames == 5
    assert "note: without effect here: --offload_model, --t5_cpu\n" in done.err


@pytest.mark.parametrize(("rank", "code", "lines"), [("0", 2, 1), ("1", 0, 0)])
def test_of_several_processes_only_the_first_speaks(tmp_path: Path, rank: str, code: int, lines: int) -> None:
    done = run("--audio", "a.wav", "--ulysses_size", "3", cwd=tmp_path, WORLD_SIZE="2", RANK=rank)
    assert (done.code, len(done.err.splitlines())) == (code, lines)


@pytest.mark.parametrize("launcher", ["python", "torchrun"])
def test_a_model_render(golden: Path, tmp_path: Path, launcher: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Under torchrun on two processes, by the options that people use."""
    torchrun = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1", "--master_port=0")
    line = "--task s2v-14B --size 480*832 --num_clip 1 --infer_frames 4 --sample_steps 1 --base_seed 3 --device cpu"
    words = [
        *line.split(),
        *("--ckpt_dir", golden / "tiny_official", "--audio", golden / "inputs" / "speech_2s.wav"),
        *("--image", picture(tmp_path / "i.png", 64, 64), "--save_file", tmp_path / "v.mp4"),
    ]
    if launcher == "torchrun":
        program, environment = (*torchrun, str(SCRIPT)), os.environ | {"OMP_NUM_THREADS": "1"}
        divided = ("--dit_fsdp", "--t5_fsdp", "--ulysses_size", "2")
        done = finish(start(*words, *divided, program=program, env=environment))
        assert "note: --dit_fsdp, --t5_fsdp: done by streaming" in done.err
    else:
        done = run_script_here(capsys, SCRIPT, *words)
    assert done.code == 0, done.err
    made = probe_video(tmp_path / "v.mp4")
    assert (made.width, made.height, made.frames, made.fps) == (64, 64, 1, 16)
    assert "engine: native (as asked)" in done.err
    assert "Warning" not in done.err


@pytest.mark.skipif(importlib.util.find_spec("diffusers") is None, reason="soundreel[native] is not here")
def test_a_missing_model_is_one_line_and_code_4_before_its_packages_are_imported(tune: Path, tmp_path: Path) -> None:
    program = f"""if True:
        import runpy, sys
        try:
            runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
        finally:
            print(sorted({{"torch", "transformers", "diffusers"}} & sys.modules.keys()))
    """
    words = ("--audio", tune, "--ckpt_dir", tmp_path, "--size", "480*832")
    done = finish(start(*words, program=("-c", program)))
    assert (done.code, done.out) == (4, "[]\n")
    assert done.err.startswith("soundreel: there are no weights of Wan 2.2 S2V in")
    assert len(done.err.splitlines()) == 1
