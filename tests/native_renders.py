"""The native engine on the tiny golden checkpoint: requests, decisions and clips, without the pipeline around them."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from soundreel.engines.base import Identity, Prepared
from soundreel.engines.native import NativeEngine
from soundreel.engines.native.chain import Chain
from soundreel.engines.native.clips import ClipDecoder
from soundreel.engines.native.prepared import Placement
from soundreel.engines.native.scene import read_reference
from soundreel.engines.native.vae import Vae
from soundreel.pipeline import plan
from soundreel.request import Request
from soundreel.types import Carry, Plan, Progress, RenderedClip, Report
from starts import starts_from
from weight_files import GOLDEN, OFFICIAL

SPEECH = GOLDEN / "inputs" / "speech_2s.wav"

CHAIN: dict[str, Any] = {"width": 64, "height": 64, "frames": 9, "infer_frames": 8, "steps": 1}
"""Two clips, 5 + 4 frames: motion frames need 64 pixels each way."""


def native_request(**fields: Any) -> Request:
    """On the CPU and the checkpoint in the official layout, unless `fields` say otherwise."""
    given = {"audio": SPEECH, "engine": "native", "device": "cpu", "models": OFFICIAL, "seed": 3}
    return Request(**(given | fields))


def native_plan(**fields: Any) -> Plan:
    """The plan of `native_request`."""
    return plan(native_request(**fields))


def prepared(planned: Plan, kept: Identity | None = None) -> Prepared:
    """What the engine decides."""
    return NativeEngine().prepare(planned, kept)


def ignore(_: Progress) -> None:
    """No display."""


def rendered(
    what: Plan | Prepared,
    start: int = 0,
    carry: Carry | None = None,
    report: Report = ignore,
    folder: Path | None = None,
) -> list[RenderedClip]:
    """The clips from index `start` on; their negatives and what the engine leaves are in `folder`, where one is named.

    What `folder` holds of negatives is not rendered again.
    """
    decided = prepared(what) if isinstance(what, Plan) else what
    with NativeEngine() as engine, TemporaryDirectory() as temporary:
        begin = starts_from(decided.plan, folder or Path(temporary), start, carry)
        return list(engine.render(decided, begin, report))


def decoder_of(planned: Plan) -> ClipDecoder:
    """As the engine builds it."""
    placement: Placement = prepared(planned).placement
    vae = Vae.load(placement.files)
    vae.most_at_once = placement.memory.vae_step
    return ClipDecoder(vae, reference_of(planned), placement.device)


def reference_of(planned: Plan) -> Tensor | None:
    """Pixels [3, 1, H, W]."""
    return None if planned.request.ref_image is None else read_reference(planned.request)


def chain_of(planned: Plan, folder: Path, start: int = 0, carry: Carry | None = None) -> Chain:
    """As the engine builds it, with the negatives in `folder`."""
    return Chain(planned, starts_from(planned, folder, start, carry)[0], decoder_of(planned), reference_of(planned))


def printed(planned: Plan, folder: Path) -> Tensor:
    """What the clips of a render that left its negatives in `folder` decode to, before it becomes uint8."""
    chain = chain_of(planned, folder)
    negatives = [(clip, chain.find(clip)) for clip in planned.clips]
    pixels = [chain.decoder.decode(negative, clip)[:, : clip.frames] for clip, negative in negatives if negative]
    return torch.cat(pixels, dim=1)
