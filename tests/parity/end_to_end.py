"""Golden cases of whole renders: everything the official `generate()` computed on the way, step by step."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from parity.case import Case, Comparison, equal, largest, relative
from pictures import to_uint8
from soundreel.engines.native.block_placement import load_transformer
from soundreel.engines.native.clips import ClipDecoder, ClipInput, ClipSampler, first_motion, next_motion
from soundreel.engines.native.denoiser import Denoiser
from soundreel.engines.native.prepared import Placement, plan_schedule, prepare
from soundreel.engines.native.rank_process import Load
from soundreel.engines.native.scene import poses, prepare_scene, read_reference
from soundreel.engines.native.shared_work import SharedVae, open_denoiser
from soundreel.engines.native.vae import Vae
from soundreel.engines.native.warm_up import Pictures
from soundreel.engines.native.workers import Workers
from soundreel.media.audio import probe_sound
from soundreel.media.image import probe_image
from soundreel.planning import plan
from soundreel.request import AvAlign, ClipSplit, RefFit, Request, Solver
from soundreel.request.video_size import size_for_area

LIMIT = 1e-4
VIDEO_LIMIT = 1e-3
CPU = torch.device("cpu")


def reference_request(case: Case, gpus: str | None = None) -> Request:
    """The case's arguments in our words: everything as the reference does it."""
    args, files = case.params["args"], case.params["files"]

    def path(name: str) -> Path | None:
        return (case.golden / files[name]).resolve() if files.get(name) else None

    image = path("ref_image_path")
    assert image is not None
    picture = probe_image(image)
    height, width = size_for_area(picture.height, picture.width, args["max_area"])
    audio = path("audio_path")
    assert audio is not None
    return Request(
        audio=audio,
        ref_image=image,
        pose_video=path("pose_video"),
        prompt=args["input_prompt"],
        negative_prompt=args["n_prompt"] or None,
        width=width,
        height=height,
        frames=case.params["frames"],
        infer_frames=args["infer_frames"],
        clip_split=ClipSplit.FULL,
        av_align=AvAlign.REFERENCE,
        ref_fit=RefFit.REFERENCE,
        start_from_ref=args["init_first_frame"],
        steps=args["sampling_steps"],
        guide_scale=args["guide_scale"],
        shift=args["shift"],
        solver=Solver(args["sample_solver"]),
        seed=args["seed"],
        models=case.checkpoint,
        engine="native",
        device="cpu",
        gpus=gpus,
    )


def run_end_to_end(case: Case, gpus: str | None = None) -> list[Comparison]:
    """Render all clips, on a number of processes, and compare what the case holds of each stage."""
    with ExitStack() as exits:
        return _run(case, gpus, exits)


def _run(case: Case, gpus: str | None, exits: ExitStack) -> list[Comparison]:
    request = reference_request(case, gpus)
    planned = plan(request, probe_sound(request.audio).seconds)
    prepared = prepare(planned)
    placement: Placement = prepared.placement
    scene = prepare_scene(prepared)
    vae = Vae.load(placement.files)
    vae.most_at_once = placement.memory.vae_step
    schedule = plan_schedule(request)
    reference = read_reference(request)
    decoder = ClipDecoder(vae, reference, CPU)
    sampler = ClipSampler(
        denoiser=_open_denoiser(placement, Pictures.of(planned), vae, exits),
        decoder=decoder,
        scene=scene,
        schedule=schedule,
        guide_scale=request.sampling.guide_scale,
    )
    checks = [
        equal("clips", len(planned.clips), case.params["clips"]),
        equal("size", (request.height, request.width), (case.params["H"], case.params["W"])),
    ]
    checks += _compare(case, "out.context", scene.words[0].prompt)
    if scene.words[0].negative is not None:
        checks += _compare(case, "out.context_null", scene.words[0].negative)
    assert decoder.reference is not None
    checks += _compare(case, "out.ref_latents", decoder.reference[None])
    if "out.audio_emb" in case.tensors:
        columns = scene.sounds[0].shape[2]
        expected = case["out.audio_emb"][..., :columns]
        checks.append(relative("out.audio_emb", scene.sounds[0][None], expected, LIMIT))
    motion = first_motion(reference) if request.guide.start_from_ref else None
    video = []
    for clip, pose in zip(planned.clips, poses(planned, 0), strict=True):
        steps: list[Tensor] = []
        given = ClipInput(clip=clip, first_sampled=planned.first_sampled(clip), motion=motion, pose=pose)
        negative = sampler.sample(given, request.height, request.width, lambda _, x, steps=steps: steps.append(x))
        pixels = decoder.decode(negative, clip)
        checks += _compare_clip(case, clip.index, steps, schedule.timesteps)
        if pose is not None:
            checks += _compare(case, f"out.clip{clip.index}.cond_latents", vae.encode(pose)[None, :, 1:])
        motion = next_motion(motion, pixels)
        video.append(pixels)
    assert motion is not None
    checks += _compare(case, "out.motion_latents_after", vae.encode(motion)[None])
    return checks + _compare_video(case, torch.cat(video, dim=1))


def _open_denoiser(placement: Placement, pictures: Pictures, vae: Vae, exits: ExitStack) -> Denoiser:
    workers = Workers()
    exits.callback(workers.close)
    crew = workers.crew(placement)
    if crew is not None:
        crew.tell(Load(placement, pictures))
        crew.wait_until_loaded()
        vae.helpers = SharedVae(crew, vae)
    return open_denoiser(crew, load_transformer(placement).network, placement)


def _compare(case: Case, name: str, ours: Tensor) -> list[Comparison]:
    return [relative(name, ours, case[name], LIMIT)] if name in case.tensors else []


def _compare_clip(case: Case, index: int, steps: list[Tensor], timesteps: tuple[float, ...]) -> list[Comparison]:
    prefix = f"out.clip{index}"
    return [
        equal(f"{prefix}.timesteps", list(timesteps), case[f"{prefix}.timesteps"].tolist()),
        *_compare(case, f"{prefix}.latents", steps[-1]),
        *(
            [relative(f"{prefix}.x", torch.stack(steps[:-1]), case[f"{prefix}.x"][1:], LIMIT)]
            if f"{prefix}.x" in case.tensors
            else []
        ),
    ]


def _compare_video(case: Case, video: Tensor) -> list[Comparison]:
    frames = torch.from_numpy(to_uint8(video)).movedim(-1, 0)
    stored = case["out.video_u8"]
    every = round(frames.shape[1] / stored.shape[1])
    checks = [largest("out.video_u8", frames[:, ::every].int(), stored.int(), 1.0)]
    if "out.video" in case.tensors:
        checks.append(relative("out.video", video, case["out.video"], LIMIT))
        checks.append(largest("out.video", video, case["out.video"], VIDEO_LIMIT))
    if "out.video_last_frame" in case.tensors:
        checks.append(relative("out.video_last_frame", video[:, -1], case["out.video_last_frame"], LIMIT))
    return checks


RUNNERS: dict[str, Callable[[Case], list[Comparison]]] = {"end_to_end": run_end_to_end}
