"""A line to a server that breaks off while a file goes through it, and a clock that such breaks put forward."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final

import httpx

from command import HANGS_SECONDS

HOP_HEADERS: Final = {"connection", "transfer-encoding", "host", "date", "server"}


class Clock:
    """In place of the module `time`: nobody waits, and time goes on when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class ThinLine:
    """Hands on what a server is asked, but of a file that is fetched only so many bytes at a time.

    Args:
        server: address of the server.
        piece: bytes of a file that come through before the connection breaks off.
        whole: bytes after which nothing more of any file comes through.
        clock: is put forward by `seconds` with each break.
    """

    def __init__(self, server: str, clock: Clock, *, piece: int, seconds: float, whole: int = 2**40) -> None:
        self.breaks = 0
        line = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name: text for name, text in self.headers.items() if name.lower() not in HOP_HEADERS}
                answer = asking.request(self.command, self.path, content=body, headers=headers)
                self.send_response(answer.status_code)
                for name, text in answer.headers.items():
                    if name.lower() not in HOP_HEADERS:
                        self.send_header(name, text)
                self.end_headers()
                self.wfile.write(self._that_comes_through(answer))

            do_POST = do_DELETE = do_GET  # noqa: N815 - names of the library

            def _that_comes_through(self, answer: httpx.Response) -> bytes:
                if not self.path.endswith("/content"):
                    return answer.content
                begin = int(answer.headers.get("Content-Range", "bytes 0-").removeprefix("bytes ").partition("-")[0])
                through = answer.content[: min(piece, max(0, whole - begin))]
                if len(through) < len(answer.content):
                    clock.now += seconds
                    line.breaks += 1
                return through

            def log_message(self, *_: object) -> None:
                """Nothing is said."""

        asking = self._asking = httpx.Client(base_url=server, timeout=HANGS_SECONDS)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "ThinLine":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._asking.close()
