"""A VAE whose pictures are divided among ranks: the single-device network, a window of the pictures on each.

What a window's convolutions read around it, its halo, every rank computes itself: no rank waits for another between the
first layer and the last. Windows lie on a grid with as little halo as the number of ranks allows. A rank's pixels are
those of one device, as are the bands of rows that one device takes one after the other (`models.vae_areas`). The layers
before the decoder's middle block, which attends to whole pictures, are computed by every rank, as small as the latents
are; those after the encoder's stages by the first rank alone.

The first rank has what goes in, and gets what comes out; decoded pixels every rank writes into host memory that all
have. Where the memory of any rank runs out, all give up together.

Legend: R ranks, T frames, H × W pixels, F latent frames, h × w their size, C channels of features.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from mmap import mmap
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from soundreel.models.devices import is_out_of_memory
from soundreel.models.parallel.ranks import Ranks
from soundreel.models.vae import decode, encoded_window, latent_frames, means, piece_spans
from soundreel.models.vae_areas import SCALE, Span, Window, even_spans, whole
from soundreel.models.vae_kernels import Part, Work, get_ready
from soundreel.models.vae_network import WanVae
from soundreel.models.vae_stages import channels_last
from soundreel.types import Check, go_on

CHANNELS = 3

FILLED = 0.75
"""Of R times as many latent frames at once as whole pictures have: with so many a window and its halo take no more
memory than these."""

TOP_STEPS = 4
"""Times as many latent frames at once as in the encoder's stages: after these the first rank is alone, and pictures are
so small that a few do not fill a GPU."""

Shape: TypeAlias = tuple[int, int, int, int]


class RoomSize(NamedTuple):
    """Of a `Room`: no frames in the form that nobody wants."""

    pixels: int  # frames of them
    pictures: int
    height: int
    width: int

    @property
    def pixels_bytes(self) -> int:
        return self.pixels * self._numbers * torch.float32.itemsize

    @property
    def bytes(self) -> int:
        """Of both."""
        return self.pixels_bytes + self.pictures * self._numbers

    @property
    def _numbers(self) -> int:
        """Of a frame."""
        return CHANNELS * self.height * self.width


@dataclass(frozen=True)
class Room:
    """Host memory of all ranks, into which each writes its window of the pictures."""

    pixels: Tensor  # float32 [3, T', H, W], or of no frames
    pictures: Tensor  # uint8 [T', H, W, 3], likewise

    @staticmethod
    def mapped(descriptor: int, size: RoomSize) -> "Room":
        """Of a file that is as large as that, or of memory that looks like one."""
        memory = torch.frombuffer(mmap(descriptor, size.bytes), dtype=torch.uint8)
        pixels, pictures = memory[: size.pixels_bytes], memory[size.pixels_bytes :]
        return Room(
            pixels.view(torch.float32).view(CHANNELS, size.pixels, size.height, size.width),
            pictures.view(size.pictures, size.height, size.width, CHANNELS),
        )


def rank_windows(height: int, width: int, ranks: int) -> list[Window]:
    """The window of each rank, of latents of h × w; an empty one for those that are too many.

    Windows lie row by row on the grid that has the shortest edges between them, where there is one for all ranks.
    """
    grids = (
        (down, count // down)
        for count in range(ranks, 0, -1)
        for down in sorted(range(1, count + 1), key=lambda down: (down - 1) * width + (count // down - 1) * height)
        if count % down == 0 and down <= height and count // down <= width
    )
    down, across = next(grids)
    windows = [Window(rows, columns) for rows in even_spans(height, down) for columns in even_spans(width, across)]
    return windows + [Window((height, height), (0, 0))] * (ranks - len(windows))


def rank_works(height: int, width: int, ranks: int, rank: int, bands: int) -> dict[Part, Work]:
    """What a rank's share of latents of h × w is, of each part that it has any of.

    Args:
        bands: that one device would go through; a rank goes through its share of them, equally many on all.
    """
    windows = rank_windows(height, width, ranks)
    own = windows[rank]
    if own.is_empty:
        return {}
    share = min(-(-bands // ranks), *(window.shape[0] for window in windows if not window.is_empty))
    part = None if own == whole(height, width) else own
    works = {kind: Work(kind, height, width, part, share) for kind in (Part.DECODE, Part.ENCODE)}
    return works | ({} if rank else {Part.MEANS: Work(Part.MEANS, height, width)})


def longer(step: int, ranks: int) -> int:
    """Latent frames at once of a window, where whole pictures have `step`: with as few, GPUs would wait for Python."""
    return max(step, int(FILLED * step * ranks))


class PictureParallel:
    """Computes what `decode` and `encode` of `models.vae` compute, the pictures divided among `ranks`.

    Every rank has to make the same calls.

    Args:
        network: the same weights on all ranks.
        ranks: those for whom latents of h × w have no window have nothing to do.
    """

    def __init__(self, network: WanVae, ranks: Ranks) -> None:
        self._network, self._ranks = network, ranks
        weight = network.quant_conv.weight
        self._device, self._dtype = weight.device, weight.dtype

    def decode(
        self,
        latents: Tensor,
        keep: int | None,
        step: int,
        bands: int,
        room: Room,
        check: Check = go_on,
        pictures: Tensor | None = None,
    ) -> Tensor | None:
        """Pixels of latents [c, F, h, w]: those of `room`, on the first rank; None elsewhere.

        Args:
            latents: on the network's device; the same on all ranks, as `keep`, `step` and `bands`.
            keep, step, check: of `models.vae.decode`.
            bands: that one device would go through; a rank goes through its share of them.
            room: the same memory on all ranks; it has frames of what is wanted.
            pictures: of the first rank, gets those of `room`.

        Returns:
            None on the first rank, too, where a rank's memory ran out.
        """
        share = self._works(latents.shape[2], latents.shape[3], bands).get(Part.DECODE)

        def work() -> Tensor:
            if share is not None:
                window = share.window or whole(*latents.shape[2:])
                lines, columns = window.scaled(SCALE).slices()
                get_ready(self._network, share)
                decode(
                    self._network,
                    latents,
                    keep,
                    longer(step, self._ranks.size),
                    share.bands,
                    check=check,
                    pictures=room.pictures[:, lines, columns] if len(room.pictures) else None,
                    only_pictures=not room.pixels.shape[1],
                    window=window,
                    pixels=room.pixels[:, :, lines, columns],
                )
            return room.pixels

        self._ranks.place.enter("pictures")
        made = self._tried(work)
        if made is None or not self._is_first:
            return None
        if pictures is not None:
            pictures.copy_(room.pictures)
        return made

    def encode(self, pixels: Tensor | None, shape: Shape, step: int, bands: int, check: Check = go_on) -> Tensor | None:
        """The mean [c, F, h, w] of pixels [3, T, H, W] on the first rank; None elsewhere.

        Args:
            pixels: of the first rank, anywhere: pieces of them come to all ranks.
            shape: theirs.
            step, bands, check: as for `decode`.

        Returns:
            None on the first rank, too, where a rank's memory ran out.
        """
        _, frames, height, width = shape
        size = height // SCALE, width // SCALE
        pieces, works = piece_spans(latent_frames(frames), step), self._works(*size, bands)
        share = works.get(Part.ENCODE)
        passes = self._works(*size, bands, rank=0)[Part.ENCODE].bands
        take = _Arriving(pixels, shape, pieces * passes, self._ranks, self._network.quant_conv.weight)

        def work() -> Tensor:
            if share is None:
                take.let_pass()
                return torch.empty(0, device=self._device, dtype=self._dtype)
            get_ready(self._network, *works.values())
            window = share.window or whole(*size)
            made = encoded_window(self._network, take, shape[1:], window, step, share.bands, check=check)
            return torch.cat(list(made), dim=2)

        self._ranks.place.enter("features of the pictures")
        features = self._tried(work, take.let_pass)
        if features is None:
            return None
        self._ranks.place.enter("the others' features")
        if not self._is_first:
            self._send(features)
            return None
        windows = rank_windows(*size, self._ranks.size)
        parts = [features, *self._receive([(*features.shape[:3], *one.shape) for one in windows[1:]], self._dtype)]
        spans = piece_spans(latent_frames(frames), TOP_STEPS * step)

        def joined(piece: Span) -> Tensor:
            made = channels_last(features.new_empty(*features.shape[:2], piece[1] - piece[0], *size))
            for part, window in zip(parts, windows, strict=True):
                rows, columns = window.slices()
                made[:, :, :, rows, columns] = part[:, :, slice(*piece)]
            return made

        return self._or_none(lambda: means(self._network, map(joined, spans)))

    @property
    def _is_first(self) -> bool:
        return self._ranks.rank == 0

    def _works(self, height: int, width: int, bands: int, rank: int | None = None) -> dict[Part, Work]:
        """This rank's, or another one's."""
        return rank_works(height, width, self._ranks.size, self._ranks.rank if rank is None else rank, bands)

    def _tried(self, work: Callable[[], Tensor], give_up: Callable[[], object] = lambda: None) -> Tensor | None:
        """What `work` makes; None on all ranks where the memory of one of them did not hold it."""
        made = self._or_none(work)
        if made is None:
            give_up()
        done = self._ranks.all_gather(torch.tensor([made is not None], device=self._device, dtype=torch.uint8))
        return made if all(bool(rank) for rank in done) else None

    def _or_none(self, work: Callable[[], Tensor]) -> Tensor | None:
        try:
            return work()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        torch.cuda.empty_cache()  # out of the handler, whose traceback would keep the tensors
        return None

    def _send(self, own: Tensor) -> None:
        """To the first rank."""
        flat, nothing = own.contiguous().view(-1), [0] * self._ranks.size
        self._ranks.all_to_all(flat, [flat.numel(), *nothing[1:]], nothing)()

    def _receive(self, shapes: Sequence[Sequence[int]], dtype: torch.dtype) -> list[Tensor]:
        """What the others send, on the first rank."""
        sizes = [0, *map(math.prod, shapes)]
        nothing = torch.empty(0, device=self._device, dtype=dtype)
        arrived = self._ranks.all_to_all(nothing, [0] * self._ranks.size, sizes)()
        return [part.view(*shape) for part, shape in zip(torch.split(arrived, sizes)[1:], shapes, strict=True)]


class _Arriving:
    """Pieces of a video that come from the first rank, one after the other, to all.

    Args:
        pixels: [3, T, H, W] on the first rank; None elsewhere.
        shape: theirs.
        pieces: the latent frames of each, in the order in which they are asked for.
        like: gives device and element type.
    """

    def __init__(self, pixels: Tensor | None, shape: Shape, pieces: Sequence[Span], ranks: Ranks, like: Tensor) -> None:
        self._pixels, self._shape, self._ranks = pixels, shape, ranks
        self._left = deque(slice(max(0, 4 * first - 3), 4 * end - 3) for first, end in pieces)
        most = max(frames.stop - frames.start for frames in self._left)
        self._room = like.new_empty(3 * most * shape[2] * shape[3])  # once: none is missing midway

    def __call__(self, frames: slice, window: Window) -> Tensor:
        """The window's part of the next piece, [1, 3, t, rows, columns]."""
        rows, columns = window.slices()
        return self._next(frames)[None, :, :, rows, columns]

    def let_pass(self) -> None:
        """Let the others have those that are left."""
        while self._left:
            self._next(self._left[0])

    def _next(self, frames: slice) -> Tensor:
        following = self._left.popleft()
        assert frames == following
        _, _, height, width = self._shape
        count = frames.stop - frames.start
        piece = self._room[: 3 * count * height * width].view(3, count, height, width)
        if self._pixels is not None:
            piece.copy_(self._pixels[:, frames])
        self._ranks.from_first(piece)
        return piece
