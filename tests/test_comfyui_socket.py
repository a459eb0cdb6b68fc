"""The WebSocket of a server that falls silent, with TLS and without: nobody waits for it without end."""

import os
import signal
import socket
import ssl
import struct
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha1
from pathlib import Path
from queue import SimpleQueue
from typing import Final

import pytest

from comfyui_renders import NEVER
from soundreel.engines.comfyui import events
from soundreel.engines.comfyui.events import EventSocket

pytestmark = pytest.mark.timeout(60)  # what is proved here is that nothing hangs

CERTIFICATE = Path(__file__).parent / "comfyui_server" / "certificate.pem"
PATIENCE_SECONDS: Final = 30.0
WEBSOCKET_KEY: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
HALF_A_RECORD: Final = b"\x17\x03\x03\x00\x20"  # of 32 bytes, which never come
HALF_A_MESSAGE: Final = b"\x81\x05he"


class SilentServer:
    """A server that answers the upgrade or not, and then nothing any more. It tells what befalls its connections.

    Args:
        speaks_tls: it is one of https; clients get session tickets after the handshake, as from any such server.
        finishes_tls: else it does not even answer the first word of TLS.
        upgrades: whether it answers the upgrade; its last word then breaks off within a record of TLS or a message.
        then: called when it has said all to a client.
    """

    def __init__(
        self,
        *,
        speaks_tls: bool,
        finishes_tls: bool = True,
        upgrades: bool = False,
        then: Callable[[socket.socket], object] = lambda _: None,
    ) -> None:
        self._speaks_tls, self._finishes_tls, self._upgrades, self._then = speaks_tls, finishes_tls, upgrades, then
        self._told: SimpleQueue[str] = SimpleQueue()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'https' if speaks_tls else 'http'}://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "SilentServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._listening.close()
        self._thread.join()

    def next_told(self) -> str:
        """What befell next: "opened" or "closed"."""
        return self._told.get(timeout=PATIENCE_SECONDS)

    def _serve(self) -> None:
        with suppress(OSError):  # it was told to end
            while True:
                self._attend(self._listening.accept()[0])

    def _attend(self, connection: socket.socket) -> None:
        self._told.put("opened")
        connection.settimeout(PATIENCE_SECONDS)
        with suppress(OSError), ExitStack() as stack:
            stack.enter_context(connection)
            if self._speaks_tls and self._finishes_tls:
                context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                context.load_cert_chain(CERTIFICATE)
                connection = stack.enter_context(context.wrap_socket(connection, server_side=True))
            said = connection.recv(65536)
            if self._upgrades:
                connection.sendall(_welcome(said))
                socket.socket.sendall(connection, HALF_A_RECORD if self._speaks_tls else HALF_A_MESSAGE)
            self._then(connection)
            while connection.recv(65536):
                pass
        self._told.put("closed")


def _welcome(upgrade: bytes) -> bytes:
    (key,) = (line.partition(b": ")[2] for line in upgrade.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key"))
    accept = b64encode(sha1(key + WEBSOCKET_KEY, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept
        + b"\r\n\r\n"
    )


@contextmanager
def listening_to(server: SilentServer) -> Iterator[EventSocket]:
    trust = ssl.create_default_context(cafile=CERTIFICATE) if server.url.startswith("https") else None
    before = set(threading.enumerate())
    with EventSocket(server.url, {}, "me", trust) as listening:
        yield listening
    assert set(threading.enumerate()) <= before


@pytest.fixture(autouse=True)
def _says_nothing(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No library complains: a lost connection is nothing that users need to read about."""
    yield
    assert not caplog.get_records("call")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"OPEN_SECONDS": 0.3, "CLOSE_SECONDS": 0.1, "RECONNECT_SECONDS": 0.0}.items():
        monkeypatch.setattr(events, name, seconds)


@pytest.mark.parametrize("speaks_tls", [False, True])
@pytest.mark.usefixtures("hasty")
class TestSilence:
    def test_instead_of_an_answer_to_the_upgrade(self, speaks_tls: bool) -> None:
        with SilentServer(speaks_tls=speaks_tls) as server, listening_to(server) as listening:
            for _ in range(2):
                listening.open()
                assert not listening.is_open
                assert [server.next_told(), server.next_told()] == ["opened", "closed"]
            assert listening.receive(0.0) is None

    def test_after_it(self, speaks_tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(events, "OPEN_SECONDS", NEVER)
        with SilentServer(speaks_tls=speaks_tls, upgrades=True) as server, listening_to(server) as listening:
            for _ in range(2):
                listening.open()
                assert listening.receive(0.01) is None
                assert listening.is_open
                assert server.next_told() == "opened"
                listening.close()
                assert server.next_told() == "closed"
            assert not listening.was_lost

    def test_of_a_server_that_is_gone(self, speaks_tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(events, "OPEN_SECONDS", NEVER)

        def reset(connection: socket.socket) -> None:
            connection.recv(65536)  # the client has begun to listen
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

        server = SilentServer(speaks_tls=speaks_tls, upgrades=True, then=reset)
        with server, listening_to(server) as listening:
            listening.open()
            assert listening.is_open
            assert listening.receive(PATIENCE_SECONDS) is None
            assert (listening.is_open, listening.was_lost) == (False, True)
            listening.open()
            assert listening.is_open


@pytest.mark.usefixtures("hasty")
def test_silence_instead_of_tls() -> None:
    with SilentServer(speaks_tls=True, finishes_tls=False) as server, listening_to(server) as listening:
        listening.open()
        assert not listening.is_open
        assert [server.next_told(), server.next_told()] == ["opened", "closed"]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises, also in a process that was started to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("speaks_tls", [False, True])
@pytest.mark.parametrize("upgrades", [False, True])
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_is_answered_at_once(upgrades: bool, speaks_tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"OPEN_SECONDS": NEVER, "CLOSE_SECONDS": 0.1}.items():
        monkeypatch.setattr(events, name, seconds)
    server = SilentServer(speaks_tls=speaks_tls, upgrades=upgrades, then=lambda _: os.kill(os.getpid(), signal.SIGINT))
    with server:
        with pytest.raises(KeyboardInterrupt), listening_to(server) as listening:
            while True:
                listening.receive(0.1)
        assert [server.next_told(), server.next_told()] == ["opened", "closed"]
