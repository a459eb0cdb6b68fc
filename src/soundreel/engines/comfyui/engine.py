"""The comfyui engine: each shot of a plan becomes one prompt on a ComfyUI server, its pictures become clips.

All clips of a shot are one prompt, because only there the latents of a clip are continued as they are. The carry only
says whether a clip came out as before; what a resumed render needs is in its scratch folder: the prompt that runs, and
the pictures that are here already.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from soundreel.engines.base import Estimate, HoldsNothing, Identity, KeptBytes, Prepared, Start
from soundreel.engines.comfyui.inventory import ModelNames, portable_names
from soundreel.engines.comfyui.material import make_input_files, stand_ins
from soundreel.engines.comfyui.pictures import clips_of
from soundreel.engines.comfyui.prompt import Prompt
from soundreel.engines.comfyui.record import PromptRecord
from soundreel.engines.comfyui.servers import open_server
from soundreel.engines.comfyui.session import Session
from soundreel.engines.comfyui.user_graph import read_graph
from soundreel.errors import EngineError, InputError, WeightsError
from soundreel.media.image import load_image
from soundreel.media.pose import PoseMatch, missing_pose_seconds
from soundreel.media.video import probe_video
from soundreel.planning import shot_plan
from soundreel.request import AvAlign, RefFit, Request
from soundreel.types import Carry, Clip, Plan, Progress, RenderedClip, Report, Shot
from soundreel.units import Frames

LAST_FRAME = "last_frame"
"""Name of the carry's tensor, uint8 [H, W, 3]."""


class ComfyUIEngine(HoldsNothing):
    """Renders on a server. Nothing of the model is in this process."""

    name = "comfyui"
    equal_clips = True
    reach = None
    chains_clips = True

    def model_files(self, request: Request) -> Mapping[str, str]:
        """None here: they are the server's, and what is in them is not to be known from here."""
        del request
        return {}

    def prepare(self, plan: Plan, kept: Identity | None = None) -> Prepared:
        """Check options, files, and that a server can render; the names of its models are the render's identity."""
        request = plan.request if kept is None else _bound(plan.request, kept)
        _check_files(request)
        try:
            models = _survey(dataclasses.replace(plan, request=request))
        except WeightsError as error:
            if kept is None:
                raise
            raise EngineError(
                f"the render cannot go on on this server as it was begun: {error}; --no-resume begins anew"
            ) from error
        identity = {} if models is None else _identity(portable_names(models, request))
        return Prepared(
            plan=plan,
            identity=identity,
            placement=_bound(plan.request, identity),  # whichever server renders a shot, it is with these models
            notes=tuple(_notes(plan)),
        )

    def estimate(self, prepared: Prepared) -> Estimate:
        """Nothing is known of a server's speed before it has rendered, and its memory is not this machine's."""
        del prepared
        return Estimate(seconds=None, memory_bytes=None)

    def kept_bytes(self, plan: Plan) -> KeptBytes:
        """Nothing: latents stay on the server."""
        return KeptBytes(negatives=(0,) * len(plan.clips))

    def render(self, prepared: Prepared, start: Start, report: Report) -> Iterator[RenderedClip]:
        """Yield the clips from `start` on, those of a shot once all of them are rendered and downloaded."""
        plan = dataclasses.replace(prepared.plan, request=prepared.placement)
        for shot in plan.shots[plan.clips[start.index].shot :]:
            scratch = start.scratch / f"shot_{shot.index + 1:05d}" if len(plan.shots) > 1 else start.scratch
            scratch.mkdir(parents=True, exist_ok=True)
            for clip, frames in _render_shot(plan, shot, start.index, _of_shot(report, plan, shot), scratch):
                carry = Carry(tensors={LAST_FRAME: frames[-1]})  # another one, and the next clip is another
                yield RenderedClip(clip=clip, frames=frames, carry=carry)
                del frames


def _render_shot(plan: Plan, shot: Shot, start: int, report: Report, scratch: Path) -> Iterator[tuple[Clip, Frames]]:
    """The clips of a shot from index `start` on, with their frames."""
    alone = shot_plan(plan, shot)
    files = make_input_files(alone, scratch, first_frame=shot.start)
    record = PromptRecord.read(scratch)
    with open_server(alone.request, preferred=None if record is None else record.url) as server:
        prompt = Prompt(plan=alone, files=files, abilities=server.abilities)
        prompt.check(server.inventory)
        pictures = Session(server.client, prompt, scratch, report).pictures()
    first = max(0, start - shot.clips[0].index)
    for own, frames in clips_of(pictures, alone, first, skip=prompt.skip):
        yield shot.clips[own.index], frames
        del frames


def _of_shot(report: Report, plan: Plan, shot: Shot) -> Report:
    """Progress of one shot as progress of the whole, counted in frames of the video."""
    before = shot.clips[0].index

    def tell(progress: Progress) -> None:
        if progress.clips:  # a graph of the user's own may sample more of them than are needed
            clip = min(progress.clip, len(shot.clips)) + before
            progress = dataclasses.replace(progress, clip=clip, clips=len(plan.clips))
        if progress.total:
            done = shot.start + shot.frames * progress.done // progress.total
            progress = dataclasses.replace(progress, done=done, total=plan.frames)
        report(progress)

    return report if len(plan.shots) == 1 else tell


def check_request(request: Request) -> None:
    """Check that a server can render `request`, as far as that can be known without its length.

    Raises:
        InputError: options that no server can follow, or unreadable files.
        EngineError: no server that can render.
        WeightsError: a server without the model's files.
    """
    _check_files(request)
    with open_server(request):
        pass


def _check_files(request: Request) -> None:
    check_options(request)
    if request.ref_image is not None:
        load_image(request.ref_image)
    if request.guide.pose_video is not None:
        probe_video(request.guide.pose_video)
    if request.server.workflow is not None:
        read_graph(request.server.workflow)


def _survey(plan: Plan) -> ModelNames | None:
    """Find a server that takes the graphs of all shots, and the models as it names them; None: the user's graph does.

    All of them, because what is wrong with the last one should not be found out hours after the first was begun.
    """
    with open_server(plan.request) as server:
        for shot in plan.shots:
            alone = shot_plan(plan, shot)
            Prompt(plan=alone, files=stand_ins(alone), abilities=server.abilities).check(server.inventory)
        return server.abilities.models


def _identity(models: ModelNames) -> Identity:
    """Names of the models; with a graph of the user's own they are its business."""
    return {**dataclasses.asdict(models), "loras": [f"{name}:{strength}" for name, strength in models.loras]}


def _bound(request: Request, identity: Identity) -> Request:
    """The request with the models that were decided on."""
    if not identity:
        return request
    named = {name: identity[name] for name in ("diffusion_model", "text_encoder", "vae", "audio_encoder")}
    return request.replace(server=dataclasses.replace(request.server, **named), loras=identity["loras"])


def _notes(plan: Plan) -> Iterator[str]:
    """Say which options have no effect on a server, and where the pose video ends before the render does."""
    request = plan.request
    given = {
        "--models": request.compute.models is not None,
        "--device": request.compute.device != "auto",
        "--ref-fit reference": request.guide.ref_fit is RefFit.REFERENCE,
    }
    ignored = [name for name, value in given.items() if value]
    if ignored:
        yield f"{', '.join(ignored)} {'has' if len(ignored) == 1 else 'have'} no effect on a ComfyUI server"
    if request.server.workflow is not None:
        yield "models, steps, guidance and sampler are the workflow's own"
    if request.guide.pose_video is not None:
        missing = missing_pose_seconds(
            request.guide.pose_video, plan.sampled_frames, match=PoseMatch.TIME, lead_in=plan.lead_in
        )
        if missing > 0:
            yield f"the pose video is {missing:.2f} s shorter than the render: for that long its last pose is held"


def check_options(request: Request) -> None:
    """Raise `InputError` for options that no server can follow."""
    impossible = {
        "--start-from-ref": request.guide.start_from_ref,
        "--av-align reference": request.guide.av_align is AvAlign.REFERENCE,
        "--sigmas": request.sampling.sigmas is not None,
    }
    given = [name for name, value in impossible.items() if value]
    if given:
        raise InputError(f"{', '.join(given)}: not possible on a ComfyUI server; leave it out, or use --engine native")
