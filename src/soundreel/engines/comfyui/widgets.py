"""The widgets of a node in ComfyUI's editor: inputs that are typed in, in the order of workflow files."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

CONTROL: Final = ""
"""Name of the widget that the editor puts behind a seed: whether it changes after each run."""

_TYPED_IN: Final = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"})
_SEEDS: Final = frozenset({"seed", "noise_seed"})

Spec = list[Any]
"""What /object_info says of an input: [type or choices, options]."""

Pick = Callable[[str, Spec], Any]
"""Gives the value of the widget of a name."""


def is_widget(spec: Spec) -> bool:
    """Whether the value of an input is typed in unless it is linked."""
    kind, options = spec[0], _options(spec)
    return (isinstance(kind, list) or kind in _TYPED_IN) and not options.get("forceInput")


def all_inputs(node: Mapping[str, Any]) -> dict[str, Spec]:
    """Required, then optional inputs of a node class."""
    return {**node["input"]["required"], **node["input"]["optional"]}


def default_of(spec: Spec) -> Any:
    """The value that a widget has at first."""
    kind, options = spec[0], _options(spec)
    if "default" in options:
        return options["default"]
    choices = _choices(spec)
    if choices:
        return next(iter(choices))
    if kind in {"INT", "FLOAT"}:
        return max(options.get("min", 0), min(options.get("max", 0), 0))  # what is nearest to 0
    return {"STRING": "", "BOOLEAN": False}.get(kind if isinstance(kind, str) else "", 0)


def widget_values(inputs: Mapping[str, Spec], pick: Pick, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Name and value of each widget, in order; a choice is followed by the widgets that it brings, named `a.b`."""
    for name, spec in inputs.items():
        if not is_widget(spec):
            continue
        value = pick(prefix + name, spec)
        yield prefix + name, value
        if _options(spec).get("control_after_generate") or (name in _SEEDS and spec[0] == "INT"):
            yield CONTROL, pick(CONTROL, spec)
        brought = _choices(spec).get(value) if isinstance(value, str) else None
        if isinstance(brought, Mapping):
            groups = brought.get("inputs") or {}
            nested = {**(groups.get("required") or {}), **(groups.get("optional") or {})}
            yield from widget_values(nested, pick, f"{prefix}{name}.")


def _choices(spec: Spec) -> dict[Any, Any]:
    options = spec[0] if isinstance(spec[0], list) else _options(spec).get("options")
    given = options if isinstance(options, list) else []
    return {option.get("key") if isinstance(option, Mapping) else option: option for option in given}


def _options(spec: Spec) -> Mapping[str, Any]:
    return spec[1] if len(spec) > 1 and isinstance(spec[1], Mapping) else {}
