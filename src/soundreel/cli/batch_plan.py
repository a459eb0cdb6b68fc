"""What `soundreel batch --dry-run` shows: what the rows would make, and what they take and cost."""

from pathlib import Path
from typing import Any

from soundreel import pipeline
from soundreel.batch.kept import to_print, to_render
from soundreel.batch.manifest import Row, Work
from soundreel.batch.rows import Device, Rows, group_of
from soundreel.cli.batch_display import Totals
from soundreel.cli.reports import Findings, show, some_of
from soundreel.errors import SoundreelError
from soundreel.wording.durations import duration, exactly, rough


def show_plan(rows: Rows, totals: Totals, output: Path, *, price: float | None, as_json: bool) -> None:
    """Print totals and rows; times are of this machine, one row after another."""
    planned = [_plan(row, output, price) for row in rows]
    printed = sum(row["printed_again"] for row in planned)
    known = [row["estimated_seconds"] for row in planned if row["estimated_seconds"] is not None]
    gpu = sum(row["estimated_seconds"] or 0.0 for row in planned if row["takes_gpu"])
    frames = sum(row["frames"] or 0 for row in planned)
    seconds = sum(row["seconds"] or 0.0 for row in planned)
    wrong = [row for row in planned if row["problem"]]
    cost = None if price is None else round(gpu / 3600 * price, 2)
    data = {
        "rows": totals.total + totals.bad,
        "bad": totals.bad,
        "done_before": totals.done,
        "frames": frames,
        "seconds": seconds,
        "estimated_seconds": sum(known) if len(known) == len(planned) else None,
        "estimated_gpu_seconds": gpu,
        "cost": cost,
        "plan": planned,
    }
    takes = f"about {duration(rough(sum(known)))} on one device like this machine's" if known else "not known"
    unknown = len(planned) - len(known) - printed
    missing = f"; of {unknown} row{'' if unknown == 1 else 's'} it is not known" if unknown else ""
    again = f", {printed} of them printed again from kept latents" if printed else ""
    facts = [
        ("rows", f"{totals.total}, {totals.done} of them there already, {totals.bad} left out"),
        ("videos", f"{len(planned) - len(wrong)} to make{again}, {frames:,} frames, {exactly(seconds)}"),
        ("time", f"{takes}{missing}" if len(planned) > printed else "no pass of the model" if planned else "none"),
        *([] if cost is None else [("cost", f"about {cost:.2f} at {price:g} for an hour of a GPU")]),
        *(("problem", f"line {row['line']}, {row['id']}: {row['problem']}") for row in wrong),
    ]
    shown = some_of(planned)
    more = f"{len(shown)} of {len(planned):,} rows; --json has every one" if len(shown) < len(planned) else ""
    columns = ("line", "id", "engine", "frames", "clips", "time", *([] if price is None else ["cost"]))
    show(
        Findings(data=data, rows=facts, columns=columns if planned else (), cells=[_cells(row, price) for row in shown],
                 closing=more),
        as_json=as_json,
    )  # fmt: skip


def _plan(row: Row, output: Path, price: float | None) -> dict[str, Any]:
    is_printed = row.work is Work.PRINT
    about: dict[str, Any] = {"line": row.line, "id": row.id, "engine": None, "frames": None, "clips": None}
    about |= {"seconds": None, "estimated_seconds": None, "takes_gpu": False, "printed_again": is_printed}
    about |= {"cost": None, "problem": None}
    try:
        render = pipeline.prepare(*(to_print if is_printed else to_render)(row, output))
        estimated = None if is_printed else render.engine.estimate(render.prepared).seconds
    except SoundreelError as error:
        return about | {"problem": str(error)}
    takes_gpu = group_of(row).device is Device.GPU and render.engine.name == "native"
    is_free, is_known = not takes_gpu, estimated is not None
    return about | {
        "engine": render.engine.name,
        "frames": render.frames_written,
        "clips": len(render.plan.clips),
        "seconds": render.plan.seconds,
        "estimated_seconds": estimated,
        "takes_gpu": takes_gpu,
        "cost": None if price is None or not (is_free or is_known) else takes_gpu * (estimated or 0.0) / 3600 * price,
    }


def _cells(row: dict[str, Any], price: float | None) -> tuple[str, ...]:
    def said(value: Any, text: str) -> str:
        return "–" if value is None else text

    estimated, cost = row["estimated_seconds"], row["cost"]
    cells = (
        f"{row['line']}",
        row["id"],
        said(row["engine"], f"{row['engine']}"),
        said(row["frames"], f"{row['frames']}"),
        said(row["clips"], f"{row['clips']}"),
        said(estimated, duration(rough(estimated or 0.0))),
    )
    return cells if price is None else (*cells, said(cost, f"{cost or 0.0:.2f}"))
