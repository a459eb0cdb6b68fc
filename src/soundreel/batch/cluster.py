"""What is asked of Ray: to be there, to look at every node, and to place, restart and end actors."""

import logging
import os
import re
import secrets
import signal
import socket
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from soundreel.batch.actors import VERSIONS, About, Worker, look
from soundreel.disk.durable import make_folder, write_text
from soundreel.disk.outputs import WORK_FOLDER
from soundreel.errors import EngineError, InputError

INSTALL: Final = "pip install '.[batch]' in a clone of soundreel"

STORE_BYTES: Final = 100 * 2**20
"""Of Ray's object store on this machine: rows and answers are small."""

NODE_SECONDS: Final = 120.0
"""That a node is given to look at the storage."""

REACH_SECONDS: Final = 5.0
"""That a cluster's address is given to answer."""

NOT_STARTED: Final = "Initialization failure from server"
"""Of ray://: the process that stands there for this one did not come up, as happens now and then; the next one does."""

STANDARD_ERROR: Final = 2
"""The number of its file."""

VERSIONS_DIFFER: Final = re.compile(r"Ray: (\S+)\s+Python: (\S+)")
REFUSED: Final = re.compile(r"InvalidAuthToken|[Uu]nauthenticated|AuthenticationError")
"""As Ray says it."""

SETTINGS: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to anybody
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # an actor without GPUs sees none
}
"""Of Ray, for this process and what it starts; what the user has set stays."""

TO_CONNECT: Final = {
    "RAY_NUM_REDIS_GET_RETRIES": "1",  # tries to connect, and how long each takes at most, about
    "RAY_py_gcs_connect_timeout_s": "1",
    "RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S": "3",  # the same for ray://, which tries three times
    "RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S": "3",
}
"""Beside these where there is a cluster: one that answers and lets nobody in is given up after seconds."""

RENDERING, TELLING = "rendering", "telling"
"""Concurrency groups of an actor: it tells how far it is while it renders."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What one actor gets."""

    gpus: int = 1  # of those that render on GPUs
    cpus: int = 2  # of the others


class Actor:
    """An actor of Ray's, and what the driver knows of it. Ray restarts it, on another node if need be."""

    def __init__(self, handle: Any, *, on_gpu: bool, number: int) -> None:
        self.handle, self.on_gpu, self.number = handle, on_gpu, number
        self.about: About | None = None  # None: it is starting

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return f"{self.about.host} {self.about.device} #{self.number}" if self.about else f"#{self.number}"


class Cluster:
    """Ray, with an output folder that all nodes see."""

    def __init__(self, ray: Any, output: Path, sizes: Sizes, keep_work: bool | None) -> None:
        self.ray, self._output, self._sizes, self._keep_work = ray, output, sizes, keep_work
        self._secret = secrets.token_hex(16)
        self._token = own_folder(output) / "seen"
        self._number = 0

    def check_nodes(self) -> list[About]:
        """What every node says of itself.

        Raises:
            InputError: one does not see the output folder.
            EngineError: one has other versions, or does not answer.
        """
        task = self.ray.remote(look)
        pin = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        asked = {}
        for node in self.ray.nodes():
            if node["Alive"]:
                where = pin(node_id=node["NodeID"], soft=False)
                options = task.options(num_cpus=0, scheduling_strategy=where, max_retries=0)
                asked[options.remote(self._token, self._secret)] = node
        answers = [self._answer(ref, node) for ref, node in asked.items()]
        refuse_unfit(answers)
        return answers

    def _answer(self, ref: Any, node: Any) -> About:
        name = node.get("NodeManagerHostname") or node.get("NodeManagerAddress")
        try:
            answer = self.ray.get(ref, timeout=NODE_SECONDS)
        except Exception as error:
            says = first_line(error)
            raise EngineError(
                f"node {name} cannot be asked whether it sees the output folder: {says}; soundreel must be installed "
                "there as here"
            ) from error
        assert isinstance(answer, About)
        return answer

    def actors_wanted(self, *, on_gpu: bool) -> int:
        """How many have room on the nodes that there are now; where there is no GPU, at least one that takes none."""
        there = self.ray.cluster_resources()
        with_gpus = int(there.get("GPU", 0)) // self._sizes.gpus
        if on_gpu:
            return with_gpus
        free = int(there.get("CPU", 1)) - with_gpus  # each of those has a CPU, too
        return max(0 if with_gpus else 1, free // self._sizes.cpus)

    @property
    def has_gpus(self) -> bool:
        """Whether any actor gets a GPU."""
        return self.actors_wanted(on_gpu=True) > 0

    def start(self, *, on_gpu: bool) -> Actor:
        """Ask Ray for another actor; it starts where there is room, and again when it has died."""
        self._number += 1
        gpus, cpus = (self._sizes.gpus, 1) if on_gpu else (0, self._room_of_one())
        groups = {RENDERING: 1, TELLING: 1}
        kind = self.ray.remote(concurrency_groups=groups)(_with_groups(self.ray, Worker))
        options = kind.options(num_gpus=gpus, num_cpus=cpus, max_restarts=-1, max_task_retries=0)
        handle = options.remote(self._output, self._keep_work, gpus)
        return Actor(handle, on_gpu=on_gpu, number=self._number)

    def _room_of_one(self) -> int:
        """CPUs of an actor: where no node has as many, one gets all of a node."""
        most = max((int(node["Resources"].get("CPU", 0)) for node in self.ray.nodes() if node["Alive"]), default=1)
        return max(0, min(self._sizes.cpus, most))

    def ask_about(self, actor: Actor) -> Any:
        """A reference to what an actor says of itself, as soon as it runs."""
        return actor.handle.about.options(max_task_retries=-1).remote(self._token, self._secret)

    @contextmanager
    def token(self) -> Iterator[None]:
        """A file in the output folder, which all nodes are to read, while the block lasts."""
        make_folder(self._token.parent, error=InputError, cure="name another --output-dir")
        write_text(self._token, self._secret)
        try:
            yield
        finally:
            with suppress(OSError):
                self._token.unlink()


def _with_groups(ray: Any, kind: type) -> type:
    """A class whose methods Ray runs in the thread of their group."""
    group = {"about": RENDERING, "render": RENDERING, "help": RENDERING, "state": TELLING}
    methods = {name: ray.method(concurrency_group=own)(_plain(kind, name)) for name, own in group.items()}
    return type("Worker", (kind,), methods)


def _plain(kind: type, name: str) -> Any:
    own = getattr(kind, name)

    def method(self: Any, *arguments: Any) -> Any:
        return own(self, *arguments)

    method.__name__ = name
    return method


def own_folder(output: Path) -> Path:
    """Of the batch itself, in the folder of the videos: its lock, and the file that all nodes are to see."""
    return output / WORK_FOLDER / ".batch"  # no id begins with a dot


def refuse_unfit(answers: Sequence[About]) -> None:
    """Raise the errors of `Cluster.check_nodes` for what nodes have answered."""
    blind = [f"{about.host} {about.problem}" for about in answers if about.problem]
    if blind:
        raise InputError(
            f"--output-dir must be a folder that all nodes see, under the same name: {'; '.join(sorted(set(blind)))}"
        )
    others = {f"{about.host} has {about.version}" for about in answers if about.version != VERSIONS}
    if others:
        raise EngineError(f"here is {VERSIONS}, but {'; '.join(sorted(others))}: install the same on all nodes")


def import_ray(address: str | None) -> Any:
    """The package, for this machine or the cluster at an address; `EngineError` with what installs it."""
    for name, value in (SETTINGS if address is None else SETTINGS | TO_CONNECT).items():
        os.environ.setdefault(name, value)
    try:
        return import_module("ray")
    except ImportError as error:
        raise EngineError(f"soundreel batch needs the package ray: {INSTALL}") from error


@contextmanager
def opened(ray: Any, address: str | None, cpus: int | None = None) -> Iterator[None]:
    """Ray on this machine alone, or the cluster at an address; left in any case.

    Meanwhile `sys.stdout` leads nowhere: Ray prints there that a worker has died, whatever it is told of logs.

    Raises:
        EngineError: there is none, or it is of another version.
    """
    _check_reachable(address or "")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if address is None:
            _start(ray, cpus)
        else:
            _connect(ray, address)
    except Exception as error:
        with suppress(Exception):
            ray.shutdown()
        raise EngineError(_why_not(address, error)) from error
    finally:
        for number, handler in before.items():
            with suppress(ValueError, TypeError):  # not in the main thread, or of no handler of Python's
                signal.signal(number, handler)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        try:
            yield
        finally:
            ray.shutdown()


def _start(ray: Any, cpus: int | None) -> None:
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        object_store_memory=STORE_BYTES,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
    )


def _connect(ray: Any, address: str) -> None:
    """Say nothing meanwhile: Ray tells in many lines, of its C++ and of gRPC, what its error says in one."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    own = {} if address.startswith("ray://") else {"logging_level": logging.ERROR}  # there it is the server's option
    with _nothing_printed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ray.init(address=address, log_to_driver=False, **own)
        except ConnectionError as error:
            if NOT_STARTED not in str(error):
                raise
            with suppress(Exception):
                ray.shutdown()
            ray.init(address=address, log_to_driver=False, **own)


@contextmanager
def _nothing_printed() -> Iterator[None]:
    """Standard error of the process itself leads nowhere, whoever writes to it."""
    sys.stderr.flush()
    kept, nowhere = os.dup(STANDARD_ERROR), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STANDARD_ERROR)
    try:
        yield
    finally:
        os.dup2(kept, STANDARD_ERROR)
        os.close(kept)
        os.close(nowhere)


def _why_not(address: str | None, error: Exception) -> str:
    """What is said where Ray cannot be used."""
    if address is None:
        return f"Ray cannot be started here ({first_line(error)})"
    where, text = f"no Ray cluster can be used at {address!r}", f"{error} {error.__cause__}"
    versions = VERSIONS_DIFFER.findall(text)
    if len(versions) == 2:
        (ray_there, python_there), (ray_here, python_here) = versions
        return (
            f"{where}: it has Ray {ray_there} and Python {python_there}, here are Ray {ray_here} and Python "
            f"{python_here}; install the same on all machines"
        )
    if REFUSED.search(text):
        return (
            f"{where}: it lets in only who has its token; set RAY_AUTH_MODE=token, and copy ~/.ray/auth_token of its "
            "head node to this machine"
        )
    return (
        f"{where} ({first_line(error)}): is `ray start --head` running there, with the same Ray and Python? Where it "
        "asks for a token, set RAY_AUTH_MODE=token, and copy ~/.ray/auth_token of its head node to this machine"
    )


def _check_reachable(address: str) -> None:
    """Raise `EngineError` where nobody listens at `HOST:PORT`: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise EngineError(
            f"no Ray cluster can be reached at {address!r} ({why}): is `ray start --head` running there, and is the "
            "port open?"
        ) from error


def first_line(error: BaseException) -> str:
    """What an error of Ray's says first: the rest is about Ray."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else type(error).__name__
