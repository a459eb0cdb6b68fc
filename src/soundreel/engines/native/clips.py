"""Clips and how they are chained: what Wan 2.2 S2V samples, decodes, and hands to the next clip.

The first clip is decoded behind the reference picture and loses its lead-in. Every later clip, and with
start-from-ref the first one too, sees the 73 frames before it as motion tokens and is decoded behind them.

Legend: T frames, H × W pixels, F = size / 4 latent frames, h × w latent size, S audio states, C their width.
Pixels are float32 [3, T, H, W] from −1 to 1. Source: Wan-Video/Wan2.2 (Apache-2.0), `WanS2V.generate`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from soundreel.engines.native.denoiser import ClipConditions, Denoiser
from soundreel.engines.native.passes import ALL_PASSES, GuidedVelocity, PassOptions
from soundreel.engines.native.sound_store import Columns
from soundreel.engines.native.vae import Vae
from soundreel.models.frame_packing import MOTION_FRAMES
from soundreel.models.vae import OnFrames
from soundreel.sampling import OnStep, Schedule, draw_noise, sample
from soundreel.types import Clip
from soundreel.units import FRAMES_PER_LATENT

REFERENCE_MOTION_FRAMES = 6
"""With start-from-ref, how many of the first clip's motion frames are the reference picture."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """What a shot's clips are told."""

    prompt: Tensor  # [n, text width]
    negative: Tensor | None  # None: no guidance, one pass per step


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What the clips of a render are told and hear."""

    words: tuple[Words, ...]  # of each shot
    sounds: Sequence[Columns]  # what each shot hears, over the whole plan; the same for shots with the same drive


@dataclass(frozen=True, kw_only=True)
class ClipInput:
    """What one clip is rendered from, beside the scene."""

    clip: Clip
    first_sampled: int  # its first frame, on the plan's count of sampled frames
    motion: Tensor | None = None  # pixels [3, 73, H, W]; None: nothing comes before it
    pose: Tensor | None = None  # pixels [3, 1 + size, H, W]


@dataclass(frozen=True, kw_only=True, eq=False)
class Negative:
    """A sampled clip, and all that its pictures are printed from again, bit by bit."""

    latents: Tensor  # [16, F, h, w], float32
    motion: Tensor | None  # latents of the frames before it, [16, 19, h, w]; None: nothing came before


class ClipDecoder:
    """Turns latents into pictures and back, behind what comes before a clip.

    Args:
        vae: moved to `device`, where it stays.
        reference: the reference image, pixels [3, 1, H, W]; of shots that `add_reference` names, that one.
    """

    def __init__(self, vae: Vae, reference: Tensor | None, device: torch.device) -> None:
        self.vae = vae.to(device)
        self.reference = None if reference is None else vae.encode(reference)  # [16, 1, h, w]
        self._of_shots: dict[int, Tensor] = {}

    @torch.inference_mode()
    def add_reference(self, shots: Iterable[int], reference: Tensor) -> None:
        """Give shots a reference image of their own, pixels [3, 1, H, W]; it is encoded once, as the first one was."""
        self._of_shots |= dict.fromkeys(shots, self.vae.encode(reference, alone=True))

    def reference_of(self, clip: Clip) -> Tensor | None:
        """Latents [16, 1, h, w] of the picture that a clip sees; None: it sees none."""
        return self._of_shots.get(clip.shot, self.reference)

    @torch.inference_mode()
    def decode(
        self,
        negative: Negative,
        clip: Clip,
        pictures: Tensor | None = None,
        *,
        only_pictures: bool = False,
        on_frames: OnFrames | None = None,
    ) -> Tensor:
        """Pixels [3, size − lead-in, H, W] of a clip, on the CPU: decoded behind what comes before, its own kept.

        `pictures` get them too, as uint8 [size − lead-in, H, W, 3]; with `only_pictures` nothing else does, and
        `on_frames` hears how many of those are there meanwhile.

        Without motion and without a reference the VAE's first latent frame is one picture: as many as are
        left when the lead-in is dropped.
        """
        latents = negative.latents.cpu()
        before = self.reference_of(clip) if negative.motion is None else negative.motion
        behind = latents if before is None else torch.cat([before.cpu(), latents], dim=1)
        kept = clip.size - clip.lead_in
        return self.vae.decode(behind, kept, pictures, only_pictures=only_pictures, on_frames=on_frames)


class ClipSampler:
    """Samples the clips of one scene on the device where the VAE is.

    Args:
        denoiser: computes velocities.
        guide_scale: of classifier-free guidance, used where the scene has a negative prompt.
        passes: which forward passes to do without; `passes_saved` then says how many the last clip did without.
    """

    def __init__(
        self,
        *,
        denoiser: Denoiser,
        decoder: ClipDecoder,
        scene: Scene,
        schedule: Schedule,
        guide_scale: float,
        passes: PassOptions = ALL_PASSES,
    ) -> None:
        self._denoiser, self._decoder, self._scene = denoiser, decoder, scene
        self._vae, self._device = decoder.vae, decoder.vae.device
        self._schedule, self._guide_scale = schedule, guide_scale
        self._passes = passes
        self.passes_saved = 0
        self._under_way: GuidedVelocity | None = None

    @torch.inference_mode()
    def sample(self, given: ClipInput, height: int, width: int, on_step: OnStep | None = None) -> Negative:
        """The latents of one clip.

        Raises:
            EngineError: the latents are no longer finite.
            Cancelled: by `on_step`.
        """
        motion = None if given.motion is None else self._vae.encode(given.motion).to(self._device)
        shape = (given.clip.size // FRAMES_PER_LATENT, *self._vae.latent_size(height, width))
        conditions = self._conditions(given, motion, shape)
        self._denoiser.condition(conditions)
        velocity = GuidedVelocity(
            self._denoiser,
            branches=len(conditions.texts),
            guide_scale=self._guide_scale,
            steps=self._schedule.steps,
            options=self._passes,
        )
        del conditions
        self._under_way = velocity
        noise = draw_noise((self._vae.channels, *shape), given.clip.seed).to(self._device)
        latents = sample(velocity, noise, self._schedule, on_step)
        self.passes_saved = velocity.passes_saved
        self._under_way = None
        self._denoiser.forget()  # what the passes needed: the decoder is about to want the room
        return Negative(latents=latents, motion=motion)

    @property
    def picture(self) -> Tensor | None:
        """What the last step took for the finished latents, [16, F, h, w]; None before the first one."""
        return None if self._under_way is None else self._under_way.picture

    def _conditions(self, given: ClipInput, motion: Tensor | None, shape: tuple[int, int, int]) -> ClipConditions:
        """The positive branch and, with guidance, the negative one: other words, and no sound."""
        scene, device = self._scene, self._device
        words, reference = scene.words[given.clip.shot], self._decoder.reference_of(given.clip)
        columns = scene.sounds[given.clip.shot]
        sound = columns[..., given.first_sampled : given.first_sampled + given.clip.size].to(device)
        texts = (words.prompt,) if words.negative is None else (words.prompt, words.negative)
        return ClipConditions(
            clip=given.clip.index + 1,
            size=shape,
            texts=tuple(text.to(device) for text in texts),
            sounds=(sound, torch.zeros_like(sound))[: len(texts)],
            reference=None if reference is None else reference.to(device),
            motion=motion,
            pose=None if given.pose is None else self._vae.encode(given.pose)[:, 1:].to(device),
        )


def first_motion(reference: Tensor) -> Tensor:
    """Motion frames of a first clip that starts from the reference: grey, then six times the picture."""
    _, _, height, width = reference.shape
    return next_motion(None, reference.expand(3, REFERENCE_MOTION_FRAMES, height, width))


def next_motion(motion: Tensor | None, frames: Tensor) -> Tensor:
    """The last 73 frames after `frames` [3, T, H, W] were added; grey (0) where there were none yet.

    In memory of their own: what is kept of them keeps no other frame.
    """
    newest = frames[:, -MOTION_FRAMES:]
    missing = MOTION_FRAMES - newest.shape[1]
    if not missing:
        return newest.clone(memory_format=torch.contiguous_format)
    earlier = frames.new_zeros(3, missing, *frames.shape[2:]) if motion is None else motion[:, -missing:]
    return torch.cat([earlier, newest], dim=1)
