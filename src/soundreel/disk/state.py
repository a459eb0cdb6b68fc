"""What this user's soundreel keeps for itself: where files lay that videos were rendered from, and a key.

    inputs/<digest>    the path at which the file, or the models folder, of that digest was last used
    key                random and this user's alone: what is sealed with it was written here

Both only help. Where nothing can be kept, a user is asked for what would have been known.
"""

import hmac
import json
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import platformdirs

from soundreel.disk.durable import TEMPORARY, write_whole
from soundreel.errors import SoundreelError
from soundreel.units import StrPath

MOST_PATHS: Final = 10_000
"""The oldest are forgotten first."""

KEY_DIGITS: Final = 64

_DIGEST: Final = re.compile(r"(\d{1,20}-)?[0-9a-f]{64}")


def state_folder() -> Path:
    """Where it is kept."""
    return platformdirs.user_state_path("soundreel")


# paths


def remember_path(digest: str, path: StrPath) -> None:
    """Note where a file is by a digest of its content, or a folder by one of what is in it."""
    folder = state_folder() / "inputs"
    with suppress(OSError, SoundreelError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(folder / digest, lambda new: new.write_bytes(os.fsencode(Path(path).absolute())))
        _forget_oldest(folder)


def recall_path(digest: Any) -> Path | None:
    """Where something with this digest was last; None where nothing is known, or nothing is there any more."""
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        return None
    with suppress(OSError, ValueError):
        path = Path(os.fsdecode((state_folder() / "inputs" / digest).read_bytes()))
        return path if path.exists() else None
    return None


def _forget_oldest(folder: Path) -> None:
    known = list(folder.iterdir())
    if len(known) > MOST_PATHS:
        for path in sorted(known, key=lambda path: path.stat().st_mtime)[:-MOST_PATHS]:
            path.unlink(missing_ok=True)


# seals


def seal(data: Any) -> str:
    """A seal that this user's soundreel alone puts on plain data and paths; "" where no key can be kept."""
    key = _key()
    return "" if key is None else _sign(data, key)


def is_own(data: Any, sealed: Any) -> bool:
    """Whether this user's soundreel has put the seal on these data."""
    key = _key()
    return (
        key is not None
        and isinstance(sealed, str)
        and hmac.compare_digest(_sign(data, key).encode(), sealed.encode(errors="replace"))
    )


def _sign(data: Any, key: bytes) -> str:
    return hmac.digest(key, json.dumps(data, sort_keys=True, default=os.fspath).encode(), "sha256").hex()


def _key() -> bytes | None:
    path = state_folder() / "key"
    with suppress(OSError, ValueError):
        if not path.exists():
            _make_key(path)
        key = bytes.fromhex(path.read_text())
        return key if len(key) == KEY_DIGITS // 2 else None
    return None


def _make_key(path: Path) -> None:
    """Make the key, unless another process makes it at the same moment."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        new.touch(mode=0o600, exist_ok=False)
        new.write_text(secrets.token_hex(KEY_DIGITS // 2))
        path.hardlink_to(new)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
