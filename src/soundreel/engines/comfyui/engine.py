"""The comfyui engine: a plan becomes one prompt on a ComfyUI server, its pictures become clips.

All clips are one prompt, because only there the latents of a clip are continued as they are. The carry only says
whether a clip came out as before; what a resumed render needs is in its scratch folder: the prompt that runs, and the
pictures that are here already.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from soundreel.engines.base import Estimate
from soundreel.engines.comfyui.client import Client
from soundreel.engines.comfyui.inventory import Inventory, find_models
from soundreel.engines.comfyui.material import InputFiles, make_input_files
from soundreel.engines.comfyui.pictures import clips_of
from soundreel.engines.comfyui.record import Record
from soundreel.engines.comfyui.servers import open_server
from soundreel.engines.comfyui.session import Session
from soundreel.engines.comfyui.user_graph import read_graph
from soundreel.engines.comfyui.work import Abilities, Work
from soundreel.errors import InputError
from soundreel.media.image import load_image
from soundreel.media.pose import PoseMatch, missing_pose_seconds
from soundreel.media.video import probe_video
from soundreel.request import AvAlign, RefFit, Request
from soundreel.types import Carry, Plan, RenderedClip, Report

LAST_FRAME = "last_frame"
"""Name of the carry's tensor, uint8 [H, W, 3]."""


class ComfyUIEngine:
    """Renders on a server. Nothing of the model is in this process."""

    name = "comfyui"
    equal_clips = True

    def check(self, request: Request) -> None:
        """Raise for options that a server cannot follow, unreadable files, and servers that cannot render."""
        check_options(request)
        if request.ref_image is not None:
            load_image(request.ref_image)
        if request.pose_video is not None:
            probe_video(request.pose_video)
        if request.server.workflow is not None:
            read_graph(request.server.workflow)
        with open_server(request.server) as client:
            Abilities.survey(client, Inventory(client), request)

    def estimate(self, plan: Plan) -> Estimate:  # noqa: ARG002
        """Nothing is known of a server's speed before it has rendered, and its memory is not this machine's."""
        return Estimate(seconds=None, memory_bytes=None)

    def model_files(self, request: Request) -> Mapping[str, str]:
        """Their names on the server; what is in them is not to be known from here."""
        if request.server.workflow is not None:
            return {}
        with open_server(request.server) as client:
            models = find_models(Inventory(client), request)
        files = {name: str(value) for name, value in dataclasses.asdict(models).items() if name != "loras"}
        return files | {f"LoRA {name}": f"strength {strength:g}" for name, strength in models.loras}

    def notes(self, plan: Plan) -> Iterator[str]:
        """Say which options have no effect on a server, and where the pose video ends before the render does."""
        request = plan.request
        given = {
            "--models": request.models is not None,
            "--device": request.device != "auto",
            "--ref-fit reference": request.ref_fit is RefFit.REFERENCE,
        }
        ignored = [name for name, value in given.items() if value]
        if ignored:
            yield f"{', '.join(ignored)} {'has' if len(ignored) == 1 else 'have'} no effect on a ComfyUI server"
        if request.server.workflow is not None:
            yield "models, steps, guidance and sampler are the workflow's own"
        if request.pose_video is not None:
            sizes = [clip.size for clip in plan.clips]
            missing = missing_pose_seconds(request.pose_video, sizes, match=PoseMatch.TIME, lead_in=0)
            if missing > 0:
                yield f"the pose video is {missing:.2f} s shorter than the render: for that long its last pose is held"

    def render(
        self, plan: Plan, start: int, carry: Carry | None, report: Report, scratch: Path
    ) -> Iterator[RenderedClip]:
        """Yield the clips from index `start` on, once all are rendered and downloaded."""
        del carry
        files = make_input_files(plan, scratch)
        record = Record.read(scratch)
        with open_server(plan.request.server, preferred=None if record is None else record.url) as client:
            work = _plan_work(client, plan, files)
            pictures = Session(client, work, scratch, report).pictures()
        for clip, frames in clips_of(pictures, plan, start, skip=work.skip):
            carry = Carry(tensors={LAST_FRAME: frames[-1]})  # another one, and the next clip is another
            yield RenderedClip(clip=clip, frames=frames, carry=carry)
            del frames


def check_options(request: Request) -> None:
    """Raise `InputError` for options that no server can follow."""
    impossible = {
        "--start-from-ref": request.start_from_ref,
        "--av-align reference": request.av_align is AvAlign.REFERENCE,
        "--sigmas": request.sigmas is not None,
    }
    given = [name for name, value in impossible.items() if value]
    if given:
        raise InputError(f"{', '.join(given)}: not possible on a ComfyUI server; leave it out, or use --engine native")


def _plan_work(client: Client, plan: Plan, files: InputFiles) -> Work:
    inventory = Inventory(client)
    abilities = Abilities.survey(client, inventory, plan.request)
    work = Work(plan=plan, files=files, abilities=abilities)
    work.check(inventory)
    return work
