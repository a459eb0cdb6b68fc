"""Reading the body of a request as it comes: JSON, or a form whose files go straight to the disk, within limits."""

import hashlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from soundreel.disk.plain_json import parse_json
from soundreel.server.errors import RefusedError, disk_full, too_much
from soundreel.server.settings import Limits
from soundreel.server.uploads import Uploads
from soundreel.wording import readable_size

MOST_JSON_BYTES: Final = 4 * 2**20
MOST_FIELD_BYTES: Final = 256 * 2**10
MOST_PARTS: Final = 200
MOST_HEADER_BYTES: Final = 8 * 2**10


@dataclass(frozen=True)
class Arrived:
    """A file that has come with a form."""

    name: str
    path: Path
    sha256: str = ""


@dataclass
class Form:
    """What a body says: fields, of which those that are files are on the disk."""

    fields: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Arrived] = field(default_factory=dict)
    is_json: bool = False

    def discard(self) -> None:
        """Remove files that nobody has kept."""
        for file in self.files.values():
            file.path.unlink(missing_ok=True)


async def read_form(request: Request, uploads: Uploads, limits: Limits) -> Form:
    """Read the body.

    Raises:
        RefusedError: it is too large, of another kind, damaged, or there is no room for it.
        ClientDisconnect: it is cut off.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind == b"multipart/form-data" and b"boundary" in options:
        return await _read_multipart(request, options[b"boundary"], uploads, limits)
    if kind in {b"application/json", b""}:
        return Form(fields=await read_json_body(request), is_json=True)
    given = kind.decode(errors="replace")[:80]
    raise RefusedError(
        415,
        "unsupported_media_type",
        f"Content-Type is {given!r}: expected application/json, or multipart/form-data with its boundary, which alone "
        "carries files (curl -F)",
    )


async def read_json_body(request: Request) -> dict[str, Any]:
    """The object in a JSON body; an empty body is an empty one."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_JSON_BYTES:
            raise RefusedError(413, "too_large", f"expected at most {readable_size(MOST_JSON_BYTES)} of JSON")
    try:
        data = parse_json(bytes(body)) if body.strip() else {}
    except ValueError as error:
        raise RefusedError(400, "invalid_json", f"this is no JSON: {error}") from None
    if not isinstance(data, dict):
        raise RefusedError(400, "invalid_json", "expected a JSON object")
    return data


async def _read_multipart(request: Request, boundary: bytes, uploads: Uploads, limits: Limits) -> Form:
    check_room(uploads, limits)
    parts = _Parts(uploads, limits)
    try:
        parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]
        async for chunk in request.stream():
            await run_in_threadpool(parser.write, chunk)
        parser.finalize()
        if not parts.is_whole:
            raise RefusedError(400, "invalid_form", "the form is cut off: send it again")
    except FormParserError as error:
        parts.form.discard()
        raise RefusedError(400, "invalid_form", f"this is no form: {error}") from None
    except OSError as error:
        parts.form.discard()
        raise disk_full() from error
    except (RefusedError, ClientDisconnect):
        parts.form.discard()
        raise
    finally:
        parts.close()
    return parts.form


def check_room(uploads: Uploads, limits: Limits) -> None:
    """Raise `RefusedError` where the disk has less room than is to stay free."""
    free = shutil.disk_usage(uploads.folder).free
    if free < limits.free_bytes:
        raise too_much(
            f"the server's disk has {readable_size(free)} left, and keeps {readable_size(limits.free_bytes)} free",
            retry_after=300,
        )


class _Parts:
    """The parts of a form as they come."""

    def __init__(self, uploads: Uploads, limits: Limits) -> None:
        self._uploads, self._limits = uploads, limits
        self.form = Form()
        self.is_whole = False
        self._count = self._size = 0
        self._header = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._text: bytearray | None = None
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()

    def callbacks(self) -> dict[str, Callable[..., None]]:
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._add_header(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._add_header(1, data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._open,
            "on_part_data": lambda data, start, end: self._write(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def close(self) -> None:
        """Close a file that was not sent to its end."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._count += 1
        if self._count > MOST_PARTS:
            raise RefusedError(400, "invalid_form", f"expected at most {MOST_PARTS} parts of a form")
        self._headers, self._header = {}, (bytearray(), bytearray())

    def _add_header(self, which: int, data: bytes) -> None:
        self._header[which].extend(data)
        if len(self._header[which]) > MOST_HEADER_BYTES:
            raise RefusedError(400, "invalid_form", "a part of the form has too long a header")

    def _end_header(self) -> None:
        name, value = map(bytes, self._header)
        self._headers[name.lower()] = value
        self._header = (bytearray(), bytearray())

    def _open(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode(errors="replace")
        if not self._name:
            raise RefusedError(400, "invalid_form", "a part of the form has no name")
        self._size, self._text = 0, None
        if b"filename" not in options:
            self._text = bytearray()
            return
        if self._name in self.form.files:
            raise RefusedError(400, "invalid_form", f"{self._name} is sent twice", field=self._name)
        place = self._uploads.new_place()
        self.form.files[self._name] = Arrived(options[b"filename"].decode(errors="replace"), place)
        self._file, self._digest = place.open("xb"), hashlib.sha256()

    def _write(self, data: bytes) -> None:
        self._size += len(data)
        if self._text is not None:
            if self._size > MOST_FIELD_BYTES:
                raise RefusedError(413, "too_large", f"{self._name} is too long", field=self._name)
            self._text.extend(data)
            return
        assert self._file is not None
        if self._size > self._limits.upload_bytes:
            most = readable_size(self._limits.upload_bytes)
            raise RefusedError(413, "too_large", f"{self._name} is larger than {most}", field=self._name)
        self._file.write(data)
        self._digest.update(data)

    def _end(self) -> None:
        if self._text is None:
            self._end_file()
            return
        text = self._text.decode(errors="replace")
        name, _, inner = self._name.removesuffix("]").partition("[")  # as the openai package writes what is nested
        if inner:
            held = self.form.fields.setdefault(name, {})
            if isinstance(held, dict):
                held[inner] = text
        elif name in self.form.fields:
            held = self.form.fields[name]
            self.form.fields[name] = [*(held if isinstance(held, list) else [held]), text]
        else:
            self.form.fields[name] = text

    def _end_file(self) -> None:
        self.close()
        arrived = self.form.files[self._name]
        if self._size or arrived.name:
            self.form.files[self._name] = replace(arrived, sha256=self._digest.hexdigest())
        else:  # a browser's field that nothing was put into
            arrived.path.unlink()
            del self.form.files[self._name]

    def _finish(self) -> None:
        self.is_whole = True
