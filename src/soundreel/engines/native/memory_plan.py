"""What of a render lies where, and in what pieces it is computed: what `memory` chooses and the engine follows."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from soundreel.models.vae import LATENT_STEP
from soundreel.request import Memory

VAE_STEPS = (LATENT_STEP, 1)
"""Latent frames that the VAE takes at once on a GPU, fastest first; elsewhere always one."""


class Encoders(StrEnum):
    """Where the encoders of text and sound are when a session renders again, and the transformer is loaded."""

    STAY = "stay"  # on the device, all the time
    COME = "come"  # to the device, beside the transformer, and leave it
    STREAMED = "streamed"  # so does the sound's; the text's blocks pass through from host memory
    ALONE = "alone"  # the transformer has to leave first


@dataclass(frozen=True, kw_only=True)
class Bits:
    """What of a memory plan changes the pixels: it belongs to a render's identity and is kept when one goes on."""

    rounds: bool  # large matrices are rounded to float8 while they are loaded
    tokens_at_once: int | None  # of the feed-forward layers; None: all
    vae_step: int | None  # latent frames that the VAE takes at once; None: any, our own kernels make the same of each
    vae_bands: int | None = 1  # of rows, in the VAE; None likewise

    @property
    def vae_ways(self) -> list[tuple[int, int]] | None:
        """The one way in which the VAE may take its pieces; None: all are the same."""
        return None if self.vae_step is None or self.vae_bands is None else [(self.vae_step, self.vae_bands)]


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """What stays on the device, what comes to it, and what is cut in pieces."""

    mode: str = Memory.HIGH
    rounds: bool = False  # large matrices are rounded to float8 while they are loaded
    blocks: int = 0  # of the transformer
    streamed: int = 0  # of them that wait in host memory
    offloads: bool = False  # layers that are used once per clip wait there, too
    text_streamed: bool = False  # the text encoder's blocks wait there
    encoders: Encoders = Encoders.ALONE
    loads_beside: bool = False  # text and sound are encoded while the transformer is loaded
    tokens_at_once: int | None = None  # of the feed-forward layers; None: all
    vae_step: int = VAE_STEPS[0]  # latent frames that the VAE takes at once
    vae_bands: int = 1  # of rows that the VAE goes through one after the other
    vae_binds: bool = True  # these two change the pixels: its convolutions are PyTorch's
    together: bool = False  # both branches of guidance go through each block before the next one comes
    streamed_bytes: int = 0  # that come to the device for each pass
    cap_bytes: int | None = None  # of PyTorch's allocations
    peak_bytes: int = 0  # most that is allocated at once on the device
    host_bytes: int = 0  # most that is taken at once of the host's memory
    locked_bytes: int = 0  # of them that the system cannot move: streamed blocks, for a GPU

    @property
    def bits(self) -> Bits:
        """What of the plan changes the pixels."""
        return Bits(
            rounds=self.rounds,
            tokens_at_once=self.tokens_at_once,
            vae_step=self.vae_step if self.vae_binds else None,
            vae_bands=self.vae_bands if self.vae_binds else None,
        )

    def says(self) -> str:
        """In a few words."""
        facts = [
            "fp8 weights" if self.rounds else "",
            f"{self.streamed} of {self.blocks} blocks streamed" if self.streamed else "",
            "text encoder streamed" if self.text_streamed else "",
        ]
        return ", ".join([f"{self.mode}", *filter(None, facts)])

    def notes(self) -> Iterator[str]:
        """What a user should know."""
        if self.rounds:
            yield (
                f"memory {self.mode}: the transformer's large matrices are rounded to fp8; --precision bf16 keeps "
                "them, and streams more of them"
            )
        if self.streamed:
            yield f"memory {self.mode}: {self.streamed} of {self.blocks} blocks are streamed from host memory"
