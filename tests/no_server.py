"""Addresses on this machine at which nothing listens: their ports are taken, as long as this process lives."""

import atexit
import socket


def _unanswered() -> str:
    """The URL of a port that nobody else gets and nobody listens at."""
    port = socket.socket()
    atexit.register(port.close)
    port.bind(("127.0.0.1", 0))
    return f"http://127.0.0.1:{port.getsockname()[1]}"


NO_SERVER, NO_OTHER_SERVER = _unanswered(), _unanswered()
