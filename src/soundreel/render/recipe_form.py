"""The text of a recipe, read: videos come from anyone, and what is said in one may be no recipe at all."""

from typing import Any, Final

from soundreel.disk.json_form import Form, misfit
from soundreel.disk.plain_json import parse_json
from soundreel.errors import InputError

_LOOK: Final = {"mean": (float, float, float), "std": (float, float, float)}

RECIPE: Final[Form] = {
    "soundreel": str,
    "engine": str,
    "created": str,
    "versions": {"*": str},
    "models": {"*": str},
    "identity?": dict,
    "fingerprint?": str,
    "folder?": str,
    "inputs": {"*": str},
    "request": dict,
    "plan": {"clips": [{"index": int, "seed": int, "look?": _LOOK}]},
    "reference_look?": _LOOK,
    "notes": [str],
    "scores?": dict,
}
"""What is read of a recipe; identity and fingerprint are missing in those of version 0.1.0."""


def read_recipe_text(text: str, name: str) -> dict[str, Any]:
    """The recipe that a text is; `InputError`, naming the video, where it is none."""
    try:
        recipe = parse_json(text)
    except ValueError as error:
        raise InputError(f"the recipe in {name!r} is damaged: {error}") from error
    if not isinstance(recipe, dict) or not isinstance(recipe.get("request"), dict):
        raise InputError(f"the recipe in {name!r} holds no request: expected a video that soundreel has made")
    wrong = misfit(recipe, RECIPE)
    if wrong is not None:
        raise InputError(f"the recipe in {name!r} is damaged: {wrong}")
    return recipe
