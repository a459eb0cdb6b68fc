"""Headers may be passwords: they go to the server that the user named, and to no other."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from command import SMALL, run_here
from soundreel.engines.comfyui.events import EventSocket


@pytest.fixture
def elsewhere() -> Iterator[socket.socket]:
    """Another server, which listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.fixture
def redirecting(elsewhere: socket.socket) -> Iterator[str]:
    """Address of a server that sends everyone elsewhere."""
    port = elsewhere.getsockname()[1]

    class Redirect(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # the only one that WebSockets speak

        def do_GET(self) -> None:
            self.send_response(302)
            scheme = "ws" if "Upgrade" in self.headers else "http"
            self.send_header("Location", f"{scheme}://127.0.0.1:{port}{self.path}")
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Redirect) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_server_that_points_elsewhere_is_not_followed(
    redirecting: str, elsewhere: socket.socket, tune: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run_here(capsys, "generate", tune, *SMALL, "--url", redirecting, "--header", "X-Key: hush")
    assert (done.code, "give that as --url" in done.err) == (5, True), done.err
    with pytest.raises(BlockingIOError):
        elsewhere.accept()


def test_nor_is_its_socket(redirecting: str, elsewhere: socket.socket) -> None:
    with EventSocket(redirecting, {"X-Key": "hush"}, "me") as events:
        events.open()
        assert not events.is_open
    with pytest.raises(BlockingIOError):
        elsewhere.accept()
