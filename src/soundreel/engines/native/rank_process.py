"""A worker: the process of one rank beside the first. It does what the first one tells it, and ends with it.

Commands come through a pipe, so that waiting for the next one has no time limit; tensors come by `torch.distributed`. A
thread reads the pipe all the time: it answers at once where the rank is, and ends the process when the pipe ends.
"""

import io
import os
import signal
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from queue import SimpleQueue
from typing import Any, Final

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from soundreel.engines.native.denoiser import ClipConditions, LocalDenoiser
from soundreel.engines.native.device import capped
from soundreel.engines.native.networks import Networks
from soundreel.engines.native.prepared import Placement
from soundreel.engines.native.team import Team
from soundreel.engines.native.vae import Vae, chosen_by_shape
from soundreel.engines.native.warm_up import Pictures, WarmUp
from soundreel.errors import SoundreelError
from soundreel.models.devices import is_out_of_memory
from soundreel.models.parallel.pictures import PictureParallel, Room, RoomSize
from soundreel.models.parallel.ranks import Mesh, NoAnswerError, connect

LOOPBACK: Final = "127.0.0.1"

ENVIRONMENT: Final[Mapping[str, str]] = {
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "0",  # PyTorch's own watchdog would end the process without a plain word
    "TORCH_CPP_LOG_LEVEL": "FATAL",  # a peer that died is told by the first rank, once
}
"""What `torch.distributed` is set up with, unless it is set otherwise."""

MORE_SECONDS: Final = 60.0
"""That `torch.distributed` waits longer than the first rank, whose message is the better one."""


@dataclass(frozen=True, kw_only=True)
class Seat:
    """What a rank has to know to meet the others."""

    rank: int
    team: Team
    port: int  # of the store on this host where they meet
    time_limit: float  # seconds that others are waited for

    @property
    def device(self) -> torch.device:
        """The rank's own."""
        return self.team.devices[self.rank]


def open_store() -> TCPStore:
    """Where the ranks of this host meet: it listens here alone, where PyTorch by itself listens to every network."""
    listening = socket.create_server((LOOPBACK, 0))
    port = listening.getsockname()[1]
    return TCPStore(LOOPBACK, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach())


def prepare_environment() -> None:
    """To be called before `torch.distributed` is first used."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def meet(seat: Seat, store: TCPStore) -> Mesh:
    """Set `torch.distributed` up; returns when all ranks have come."""
    on_gpu = seat.device.type == "cuda"
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=store,
        rank=seat.rank,
        world_size=seat.team.size,
        timeout=timedelta(seconds=seat.time_limit + MORE_SECONDS),
        device_id=seat.device if on_gpu else None,
    )
    return connect(seat.rank, seat.team.guidance, seat.team.tokens, seat.device)


# commands, from the first rank


@dataclass(frozen=True)
class Load:
    """Load the transformer, on the rank's own device; answered by READY."""

    placement: Placement
    pictures: Pictures


@dataclass(frozen=True)
class Begin:
    """Begin a clip."""

    conditions: bytes  # of `pack`


@dataclass(frozen=True)
class Pass:
    """Compute velocities; the latents are broadcast next."""

    stage: str
    shape: tuple[int, ...]
    timestep: Any  # 0-dim array
    count: int  # branches


@dataclass(frozen=True)
class Decode:
    """Make a share of the pictures of latents, which are broadcast next. A descriptor of the room follows."""

    shape: tuple[int, ...]
    keep: int | None
    step: int
    bands: int
    size: RoomSize
    room: int | None = None  # the descriptor, on the rank's side


@dataclass(frozen=True)
class Encode:
    """Encode a window of pictures, pieces of which are broadcast next."""

    shape: tuple[int, int, int, int]
    step: int
    bands: int


@dataclass(frozen=True)
class Forget:
    """End the clip."""


@dataclass(frozen=True)
class Where:
    """Answered by PLACE at once, whatever the rank is doing."""


INPUT: Final = "taking over the latents"
"""The place of a rank that has not got them yet."""

STARTED, READY, PLACE, FAILED, LOST = "started", "ready", "place", "failed", "lost"
"""What a worker says: pairs of one of these and a text. LOST is a failure that others are the cause of."""


def pack(conditions: ClipConditions) -> bytes:
    """For a pipe."""
    buffer = io.BytesIO()
    torch.save(vars(conditions.to("cpu")), buffer)
    return buffer.getvalue()


def unpack(data: bytes, device: torch.device) -> ClipConditions:
    """What `pack` made, on a device."""
    return ClipConditions(**torch.load(io.BytesIO(data), weights_only=True)).to(device)


# the worker


def serve(seat: Seat, connection: Connection) -> None:
    """The whole life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first rank decides what it means
    with suppress(OSError):
        os.dup2(2, 1)  # standard output is the command's
    prepare_environment()
    voice = _Voice(connection)
    try:
        worker = _Worker(seat, voice)
        with torch.inference_mode():
            worker.work()
    except NoAnswerError as error:
        voice.say(LOST, str(error))
    except BaseException as error:  # noqa: BLE001 - the first rank is told of all of them
        voice.say(FAILED, f"rank {seat.rank} ({seat.device}): {_in_words(error)}")
    os._exit(1)  # whatever threads and devices still wait for


def _in_words(error: BaseException) -> str:
    if isinstance(error, RuntimeError) and is_out_of_memory(error):
        return "it ran out of memory: take a smaller --memory, a smaller picture or shorter --infer-frames"
    text = str(error).strip().splitlines()
    if isinstance(error, SoundreelError) and text:
        return text[0]
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


class _Voice:
    """What goes back to the first rank, from both threads."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._lock = threading.Lock()

    def say(self, kind: str, text: str = "") -> None:
        with self._lock:
            try:
                self.connection.send((kind, text))
            except OSError:
                os._exit(1)  # nobody is left to hear it


class _Worker:
    def __init__(self, seat: Seat, voice: _Voice) -> None:
        self._seat, self._voice = seat, voice
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._networks, self._warm_up = Networks(), WarmUp()
        self._denoiser: LocalDenoiser | None = None
        self._vae: Vae | None = None
        self._mesh: Mesh | None = None
        self._placement: Placement | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def work(self) -> None:
        """Meet the others, then do what is told; never returns."""
        seat = self._seat
        if seat.device.type == "cuda":
            torch.cuda.set_device(seat.device)
        cores = torch.get_num_threads()
        torch.set_num_threads(max(1, cores // seat.team.size))  # pictures reach the host at the same time
        self._voice.say(STARTED)
        self._inbox.get()  # all have started
        self._mesh = meet(seat, TCPStore(LOOPBACK, seat.port, is_master=False))
        while True:
            self._do(self._inbox.get())

    def _do(self, command: Any) -> None:
        if isinstance(command, Load):
            self._load(command.placement, command.pictures)
            self._voice.say(READY)
            return
        assert self._placement is not None
        assert self._denoiser is not None
        with capped(self._seat.device, self._placement.memory):
            if isinstance(command, Begin):
                self._denoiser.condition(unpack(command.conditions, self._seat.device))
            elif isinstance(command, Pass):
                self._pass(command, self._denoiser)
            elif isinstance(command, Decode | Encode):
                self._make_pictures(command)
            else:
                self._denoiser.forget()

    def _load(self, placement: Placement, pictures: Pictures) -> None:
        assert self._mesh is not None
        self._mesh.everyone.place.begin("loading")
        self._placement = own = replace(placement, device=self._seat.device)
        self._warm_up.go_on(own, pictures, self._seat.rank)
        with capped(own.device, own.memory):
            self._vae = self._networks.vae(own)
            network = self._networks.transformer(own).network
            self._denoiser = LocalDenoiser(network, together=own.memory.together, mesh=self._mesh)

    def _pass(self, command: Pass, denoiser: LocalDenoiser) -> None:
        latents = self._take_over(command.stage, command.shape, torch.float32)
        denoiser(latents, torch.from_numpy(command.timestep).to(self._seat.device), command.count)

    def _make_pictures(self, command: Decode | Encode) -> None:
        assert self._mesh is not None
        assert self._vae is not None
        shared = PictureParallel(self._vae.network, self._mesh.everyone)
        with chosen_by_shape():
            if isinstance(command, Decode):
                assert command.room is not None
                room = Room.mapped(command.room, command.size)
                os.close(command.room)
                latents = self._take_over("decoding", command.shape, self._vae.dtype)
                shared.decode(latents, command.keep, command.step, command.bands, room)
            else:
                self._mesh.everyone.place.begin("encoding")
                shared.encode(None, command.shape, command.step, command.bands)

    def _take_over(self, stage: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Latents, from the first rank."""
        assert self._mesh is not None
        everyone = self._mesh.everyone
        everyone.place.begin(stage)
        everyone.place.enter(INPUT)
        latents: Tensor = torch.empty(shape, device=self._seat.device, dtype=dtype)
        everyone.from_first(latents)
        return latents

    def _read(self) -> None:
        while True:
            try:
                command = self._voice.connection.recv()
                if isinstance(command, Decode):
                    command = replace(command, room=recv_handle(self._voice.connection))
            except (EOFError, OSError, RuntimeError):  # RuntimeError: half a message
                os._exit(0)  # the first rank has ended, or wants no more
            if isinstance(command, Where):
                self._voice.say(
                    PLACE, f"rank {self._seat.rank}" if self._mesh is None else str(self._mesh.everyone.place)
                )
            else:
                self._inbox.put(command)
