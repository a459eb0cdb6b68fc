"""What strangers send to a server, damaged: files, forms, requests and storyboards, at its doors without a socket."""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import httpx
from PIL import Image

from media_files import tone, write_sound
from mutations import Chance, mutate_bytes, mutate_document, pick, written
from soundreel.server.app import opened
from soundreel.server.settings import Catalogue, Model, Settings, WorkerSpec

KIND: Final = {"Content-Type": "multipart/form-data; boundary=b"}

STORYBOARD: Final = (
    'song = "tone.wav"\n[defaults]\nsteps = 4\n[[shot]]\nprompt = "blue"\n[[shot]]\nstart = 0.5\nseed = 7\n'
)


class Doors:
    """One server for all attempts: whatever is sent, it refuses in words or takes it, and keeps nothing by mistake."""

    def __init__(self, workshop: Path) -> None:
        self._data = workshop / "data"
        write_sound(workshop / "tone.wav", tone(1.0, 16_000), 16_000)
        Image.new("RGB", (32, 32), "teal").save(workshop / "picture.png")
        self._files = [(workshop / name).read_bytes() for name in ("tone.wav", "picture.png")]
        settings = Settings(
            data=self._data,
            catalogue=Catalogue(models=(Model(name="draft", engine="draft"),)),
            workers=(WorkerSpec(name="draft-1", engine="draft"),),
        )
        self._server = opened(settings)
        self._app = self._server.__enter__().app
        self._sound = self._ask("POST", "/v1/files", form("file", self._files[0]), KIND).json()["id"]

    def __call__(self, chance: Chance) -> None:
        """One attempt."""
        pick(chance, (self._file, self._form, self._request, self._storyboard))(chance)
        left = [path.name for path in (self._data / "uploads").iterdir() if path.name.startswith("arriving_")]
        assert not left, left

    def _file(self, chance: Chance) -> None:
        answer = self._ask("POST", "/v1/files", form("file", mutate_bytes(pick(chance, self._files), chance)), KIND)
        if answer.status_code == 200:
            upload = answer.json()["id"]
            for what in ("peaks", "analysis", "analysis/progress", "picture", "content"):
                self._ask("GET", f"/v1/files/{upload}/{what}")
            self._ask("DELETE", f"/v1/files/{upload}")

    def _form(self, chance: Chance) -> None:
        self._ask("POST", "/v1/files", mutate_bytes(form("file", self._files[1][:200]), chance), KIND)

    def _request(self, chance: Chance) -> None:
        body = {
            "audio": self._sound,
            "size": "32x32",
            "steps": 4,
            "shots": [{"start": 0, "prompt": "x"}, {"start": 0.5}],
        }
        path = pick(chance, ("/v1/videos", "/v1/plan", "/v1/storyboards"))
        self._ask("POST", path, written(mutate_document(body, chance), chance), {"Content-Type": "application/json"})

    def _storyboard(self, chance: Chance) -> None:
        text = mutate_bytes(STORYBOARD.encode(), chance).decode("utf-8", "replace")
        body = {"text": text, "files": {"tone.wav": self._sound}}
        self._ask("POST", "/v1/storyboards/read", json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app, raise_app_exceptions=True)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8765") as client:
                return await client.request(method, path, content=body, headers=headers)

        answer = asyncio.run(ask())
        assert answer.status_code < 500, (method, path, body[:2000], answer.text)
        if answer.status_code >= 400:
            error: dict[str, Any] = answer.json()["error"]
            assert error["message"], (method, path, body[:2000])
            assert str(self._data) not in answer.text, answer.text
        return answer


def form(name: str, content: bytes) -> bytes:
    """A form with one file."""
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="a.wav"\r\n\r\n'
    return head.encode() + content + b"\r\n--b--\r\n"
