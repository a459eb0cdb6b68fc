"""What all ranks of a crew compute together, told by the first one: velocities, and the VAE's pictures."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from soundreel.engines.native import device as devices
from soundreel.engines.native.denoiser import ClipConditions, Denoiser, LocalDenoiser
from soundreel.engines.native.prepared import Placement
from soundreel.engines.native.rank_process import INPUT, Begin, Decode, Encode, Forget, Pass, pack
from soundreel.engines.native.vae import Vae
from soundreel.engines.native.workers import Crew
from soundreel.models.parallel.pictures import PictureParallel, Room, RoomSize
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.models.vae import kept_frames
from soundreel.models.vae_areas import SCALE


class SharedDenoiser:
    """Computes velocities with all ranks of a crew."""

    def __init__(self, crew: Crew, transformer: WanS2VTransformer3DModel, placement: Placement) -> None:
        self._crew, self._device = crew, placement.device
        self._own = LocalDenoiser(transformer, together=placement.memory.together, mesh=crew.mesh)
        self._clip = self._passes = 0

    def condition(self, conditions: ClipConditions) -> None:
        """Begin a clip."""
        self._clip, self._passes = conditions.clip, 0
        with self._crew.step(f"the beginning of clip {self._clip}"):
            self._crew.tell(Begin(pack(conditions)))
        self._own.condition(conditions)

    def __call__(self, latents: Tensor, timestep: Tensor, count: int) -> list[Tensor]:
        """The velocities of the first `count` branches at latents [16, F, h, w]: of the same shape each."""
        self._passes += 1
        stage = f"pass {self._passes} of clip {self._clip}"
        with self._crew.step(stage):
            latents = latents.contiguous()
            self._crew.tell(Pass(stage, tuple(latents.shape), timestep.cpu().numpy(), count))
            self._crew.mesh.everyone.place.enter(INPUT)
            self._crew.mesh.everyone.from_first(latents)
            velocities = self._own(latents, timestep, count)
            devices.wait(self._device)
        return velocities

    def forget(self) -> None:
        """End the clip."""
        self._own.forget()
        self._crew.tell(Forget())


def open_denoiser(crew: Crew | None, transformer: WanS2VTransformer3DModel, placement: Placement) -> Denoiser:
    """What computes the velocities of a render: all ranks of a crew, or this process alone."""
    if crew is None:
        return LocalDenoiser(transformer, together=placement.memory.together)
    return SharedDenoiser(crew, transformer, placement)


class SharedVae:
    """Decodes and encodes with all ranks of a crew.

    Args:
        vae: this rank's; what it is to call before each piece is heard here as well.
    """

    def __init__(self, crew: Crew, vae: Vae) -> None:
        self._crew, self._vae = crew, vae

    def decode(
        self,
        moments: Tensor,
        keep: int | None,
        step: int,
        bands: int,
        *,
        pictures: Tensor | None,
        only_pictures: bool,
    ) -> Tensor | None:
        """Pixels [3, T, H, W] of latents [c, F, h, w] as the network knows them; None where a memory ran out."""
        everyone = self._crew.mesh.everyone
        _, latent_frames, height, width = moments.shape
        frames = kept_frames(latent_frames, keep)
        size = RoomSize(
            pixels=0 if only_pictures else frames,
            pictures=0 if pictures is None else frames,
            height=SCALE * height,
            width=SCALE * width,
        )
        with (
            self._crew.step("decoding"),
            share_of_cores(everyone.size),
            shared_memory(size.bytes) as descriptor,
        ):
            moments = moments.contiguous()
            room = Room.mapped(descriptor, size)
            self._crew.tell(Decode(tuple(moments.shape), keep, step, bands, size), descriptor)
            everyone.place.enter(INPUT)
            everyone.from_first(moments)
            shared = PictureParallel(self._vae.network, everyone)
            return shared.decode(moments, keep, step, bands, room, self._vae.check, pictures)

    def encode(self, pixels: Tensor, step: int, bands: int) -> Tensor | None:
        """The mean [c, F, h, w] of pixels [3, T, H, W]; None where a memory ran out."""
        _, frames, height, width = pixels.shape
        shape = (3, frames, height, width)
        with self._crew.step("encoding"), share_of_cores(self._crew.mesh.everyone.size):
            self._crew.tell(Encode(shape, step, bands))
            shared = PictureParallel(self._vae.network, self._crew.mesh.everyone)
            return shared.encode(pixels, shape, step, bands, self._vae.check)


@contextmanager
def share_of_cores(ranks: int) -> Iterator[None]:
    """Within, PyTorch has no more threads here than a worker has: all ranks write their pictures at the same time."""
    every = torch.get_num_threads()
    torch.set_num_threads(max(1, every // ranks))
    try:
        yield
    finally:
        torch.set_num_threads(every)


@contextmanager
def shared_memory(size: int) -> Iterator[int]:
    """A descriptor of so many bytes of memory, which lives as long as somebody has mapped it.

    It is no file of /dev/shm, of which a container often has 64 MB; where the system has no such memory it is a file
    without a name.
    """
    with ExitStack() as opened:
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("soundreel pictures")
            opened.callback(os.close, descriptor)
        else:
            descriptor = opened.enter_context(tempfile.TemporaryFile()).fileno()
        os.truncate(descriptor, size)
        yield descriptor
