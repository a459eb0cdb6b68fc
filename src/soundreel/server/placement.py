"""From a job to what a worker renders: the paths of its files, and what is the server's to say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from soundreel.request import Request
from soundreel.server.jobs import Job, NewJob
from soundreel.server.settings import Settings, WorkerSpec
from soundreel.server.wire import with_files


def request_of(job: Job, files: Mapping[str, Path], settings: Settings, worker: WorkerSpec) -> Request:
    """What a worker is to render: the job's fields, the paths of its files, and what is the server's to say."""
    return _placed(job, files, settings, worker, settings.job_folder(job.id) / "video.mp4")


def _placed(
    job: Job | NewJob, files: Mapping[str, Path], settings: Settings, worker: WorkerSpec, output: Path
) -> Request:
    catalogue = settings.catalogue
    model = catalogue.model(job.model)
    base = Request(**with_files(job.fields, files))
    compute: dict[str, Any] = {"loras": [catalogue.lora(lora) for lora in job.names.get("loras", ())]}
    if model.folder is not None:
        compute["models"] = str(model.folder)
    server: dict[str, Any] = {"headers": settings.headers}
    if "workflow" in job.names:
        server["workflow"] = str(catalogue.workflow(job.names["workflow"]))
    request = base.replace(
        engine=job.engine,
        compute=_replaced(base.compute, compute),
        server=_replaced(base.server, server),
        output=_replaced(base.output, {"path": str(output), "preview": True}),
    )
    return placed(request, worker)


def placed(request: Request, worker: WorkerSpec) -> Request:
    """The same on a worker's own devices, or on its server."""
    first, *more = worker.devices or ("auto",)
    gpus = ",".join(device.partition(":")[2] for device in worker.devices) if more else None
    server = {} if worker.url is None else {"urls": (worker.url,)}
    return request.replace(
        compute=_replaced(request.compute, {"device": first, "memory": worker.memory, "gpus": gpus}),
        server=_replaced(request.server, server),
    )


def plan_request(new: NewJob, files: Mapping[str, Path], settings: Settings) -> Request:
    """What a worker would be asked to render; nothing is written for it."""
    workers = [spec for spec in settings.workers if spec.engine == new.engine]
    return _placed(new, files, settings, workers[0], settings.data / "plan.mp4")


def _replaced(group: Any, values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**{name: getattr(group, name) for name in group.__dataclass_fields__}, **values}
