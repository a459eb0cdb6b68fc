"""Rows that need no pass of the model any more: their pictures are kept, and only the file is wanted otherwise."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from soundreel.batch.manifest import Row
from soundreel.errors import InputError
from soundreel.render.plan_file import PlanData, clip_file, read_plans
from soundreel.request import EngineName, Request, WorkOptions
from soundreel.request.fields import Paths, Role, fields_of, replaced, to_data

BESIDE_THE_PICTURES: Final = frozenset({Role.ENCODING, Role.NEITHER})
"""Roles of fields that another value may have while the pictures stay."""


def kept_render(row: Row, output: Path) -> PlanData | None:
    """The plan of an earlier render of a row's pictures of which all latents are there; None: there is none.

    It is no more than a look: whether files are whole, and inputs what they were, is seen by whoever prints.
    """
    folder, wanted = row.work_folder(output), _of_pictures(to_data(row.request, Paths.ABSOLUTE))
    with suppress(InputError):  # of an earlier version
        for plan in read_plans(folder).values():
            is_alike = row.request.engine in {EngineName.AUTO, plan.get("engine")}
            if is_alike and _of_pictures(plan["request"]) == wanted and _has_latents(folder, plan):
                return plan
    return None


def to_render(row: Row, output: Path) -> tuple[Request, WorkOptions]:
    """What makes a row's video in the folder of the videos."""
    return replaced(row.request, "output.path", row.video(output)), WorkOptions(work_dir=row.work_folder(output))


def to_print(row: Row, output: Path) -> tuple[Request, WorkOptions]:
    """The same without a pass of the model; of the models no other file is asked for than what decodes latents.

    Raises:
        InputError: nothing is kept of its pictures.
    """
    request, work = to_render(row, output)
    kept = kept_render(row, output)
    if kept is None:
        raise InputError(f"the latents of {row.id!r} are not kept in {str(work.work_dir)!r}")
    models = kept["parts"].get("model files", {})
    return request.replace(engine=kept.get("engine", request.engine)), replace(
        work, only_print=True, printed_models=models
    )


def _has_latents(folder: Path, plan: PlanData) -> bool:
    clips = ((clip["index"], str(clip.get("pixels"))) for clip in plan["clips"])
    return all(clip_file(folder, index, pixels, ".latents.json").exists() for index, pixels in clips)


def _of_pictures(request: Mapping[str, Any]) -> dict[str, Any]:
    """Of a request as JSON has it, what decides its pictures; which engine is looked at apart."""
    left_out = {field.name for field in fields_of(Request) if field.option.role in BESIDE_THE_PICTURES} | {"engine"}
    return {name: value for name, value in _flat(request).items() if name not in left_out}


def _flat(request: Mapping[str, Any]) -> dict[str, Any]:
    """With dotted names in place of groups."""
    flat: dict[str, Any] = {}
    for name, value in request.items():
        group = {f"{name}.{leaf}": inner for leaf, inner in value.items()} if isinstance(value, Mapping) else None
        flat |= {name: value} if group is None else group
    return flat
