"""Whether JSON that was read has the form in which it was written: files are damaged, and come from anyone.

A *form* is a type (`str`, `int`, `float`, `bool`, `dict`), `[form]` for a list of such values, `(form, form)` for one
of just so many, `{"*": form}` for an object of any names, or `{"name": form}` for one that has at least these; a name
with `?` at its end may be missing or null.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

Form: TypeAlias = "type | list[Form] | tuple[Form, ...] | Mapping[str, Form]"

WORDS: Final[Mapping[type, str]] = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "an object",
}  # fmt: skip

DEEPEST: Final = 40
"""Levels of lists and objects in each other; what soundreel writes has 6."""


def misfit(data: Any, form: Form) -> str | None:
    """What is wrong with data of a form, as `plan.clips: expected a list`; None where nothing is."""
    if _depth_is_over(data):
        return "it is nested too deeply"
    return next(_misfits(data, form, "it"), None)


def _misfits(data: Any, form: Form, name: str) -> Iterator[str]:
    if isinstance(form, type):
        if not _is_a(form, data):
            yield f"{name}: expected {WORDS[form]}"
    elif isinstance(form, Mapping):
        yield from _misfits_of_object(data, form, name)
    elif not isinstance(data, list):
        yield f"{name}: expected a list"
    elif isinstance(form, tuple) and len(data) != len(form):
        yield f"{name}: expected {len(form)} values"
    else:
        forms = form if isinstance(form, tuple) else form * len(data)
        for index, (value, of_value) in enumerate(zip(data, forms, strict=True)):
            yield from _misfits(value, of_value, f"{name}[{index}]")


def _is_a(kind: type, data: Any) -> bool:
    if isinstance(data, bool):  # which Python takes for a number
        return kind is bool
    return isinstance(data, (int, float) if kind is float else kind)


def _misfits_of_object(data: Any, form: Mapping[str, Form], name: str) -> Iterator[str]:
    if not isinstance(data, dict):
        yield f"{name}: expected {WORDS[dict]}"
        return
    if "*" in form:
        form = dict.fromkeys(data, form["*"])
    for key, of_value in form.items():
        leaf = key.removesuffix("?")
        if leaf == key or data.get(leaf) is not None:
            yield from _misfits(data.get(leaf), of_value, leaf if name == "it" else f"{name}.{leaf}")


def _depth_is_over(data: Any) -> bool:
    level = [data]
    for _ in range(DEEPEST):
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Iterator[Any]:
    return iter(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
