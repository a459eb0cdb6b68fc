"""What stands behind the question mark of an address."""

from typing import Final

from starlette.requests import Request

from soundreel.errors import InputError

DEFAULT_PAGE: Final = 20
MOST_PAGE: Final = 100


def page_size(request: Request) -> int:
    """How many of a list are asked for."""
    return number(request, "limit", DEFAULT_PAGE, 1, MOST_PAGE)


def number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A whole number from `least` to `most`; `InputError` where it is none."""
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
        raise InputError(f"{name} is {text[:40]!r}: expected {least} to {most}", field=name)
    return int(text)


def choice(request: Request, name: str, choices: tuple[str, ...]) -> str:
    """One of `choices`, the first where nothing is said; `InputError` where it is none of them."""
    text = request.query_params.get(name, choices[0])
    if text not in choices:
        raise InputError(f"{name} is {text[:40]!r}: expected {', '.join(choices)}", field=name)
    return text
