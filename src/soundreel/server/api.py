"""The doors: each reads a request, asks queue, uploads or helpers, and answers."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from soundreel.errors import InputError
from soundreel.server import views
from soundreel.server.answers import JSON, answer
from soundreel.server.errors import PathHider, RefusedError, not_found
from soundreel.server.events import stream_jobs
from soundreel.server.file_api import FileApi
from soundreel.server.forms import Form, check_room, read_form, read_json_body
from soundreel.server.helper import PLAN_SECONDS, Helper
from soundreel.server.jobs import Job, NewJob, State, Upload
from soundreel.server.live import Hub
from soundreel.server.names import UPLOADED, known_name, uploaded_field
from soundreel.server.new_jobs import new_job
from soundreel.server.openapi import document
from soundreel.server.pictures import DRAWN_BY, picture_of
from soundreel.server.placement import plan_request
from soundreel.server.query import choice, page_size
from soundreel.server.queue import Queue
from soundreel.server.ranges import send_file
from soundreel.server.security import COOKIE, is_token
from soundreel.server.settings import Settings
from soundreel.server.snapshots import Snapshots
from soundreel.server.storyboard_api import StoryboardApi
from soundreel.server.supervisor import Supervisor
from soundreel.server.uploads import Uploads
from soundreel.server.wire import Wanted, read_wanted, text_values
from soundreel.server.worker import PARTIAL, PREVIEW, VIDEO
from soundreel.version import __version__

IDEMPOTENCY_LETTERS: Final = 255

LENGTHS: Final = ("window.duration", "window.frames", "window.full")
"""Fields that say how long a video is."""

Door = Callable[[Request], Awaitable[Response]]

VARIANTS: Final = ("video", "partial", *DRAWN_BY)


class Api:
    """All doors of a server."""

    def __init__(
        self, settings: Settings, queue: Queue, uploads: Uploads, supervisor: Supervisor, hub: Hub, hide: PathHider
    ) -> None:
        self._settings, self._queue, self._uploads = settings, queue, uploads
        self._supervisor, self._hub, self._hide = supervisor, hub, hide
        self._planner = Helper(is_limited=False)
        self._files = FileApi(settings, uploads, hide)
        self._storyboards = StoryboardApi(settings, queue, uploads, hide, self._added)
        self._snapshots = Snapshots(queue, hub, settings.keep_seconds)

    def get_ready(self) -> None:
        """Somebody has opened the page: a file will come, then an outline and a plan are wanted."""
        self._uploads.get_ready()
        self._files.get_ready()
        self._planner.get_ready()

    def close(self) -> None:
        """End the processes that belong to it."""
        self._planner.close()
        self._files.close()
        self._storyboards.close()

    def routes(self) -> list[Route]:
        """Paths, methods and doors."""
        table: list[tuple[str, str, Door]] = [
            ("GET", "/healthz", self.health),
            ("GET", "/openapi.json", self.document),
            ("POST", "/v1/login", self.login),
            ("GET", "/v1/status", self.status),
            ("GET", "/v1/models", self.models),
            ("POST", "/v1/videos", self.create),
            ("GET", "/v1/videos", self.list),
            ("GET", "/v1/videos/{id}", self.show),
            ("DELETE", "/v1/videos/{id}", self.delete),
            ("GET", "/v1/videos/{id}/content", self.content),
            ("GET", "/v1/videos/{id}/preview", self.preview),
            ("GET", "/v1/videos/{id}/events", self.events),
            ("POST", "/v1/videos/{id}/cancel", self.cancel),
            ("POST", "/v1/videos/{id}/retry", self.retry),
            ("GET", "/v1/videos/{id}/storyboard", self._storyboards.of_video),
            ("POST", "/v1/videos/{id}/shots/{name}/redo", self._storyboards.redo),
            ("POST", "/v1/storyboards", self._storyboards.write),
            ("POST", "/v1/storyboards/read", self._storyboards.read),
            ("GET", "/v1/events", self.all_events),
            ("POST", "/v1/plan", self.plan),
            ("POST", "/v1/files", self._files.upload),
            ("GET", "/v1/files", self._files.list),
            ("GET", "/v1/files/{id}", self._files.show),
            ("DELETE", "/v1/files/{id}", self._files.delete),
            ("GET", "/v1/files/{id}/content", self._files.content),
            ("GET", "/v1/files/{id}/picture", self._files.picture),
            ("GET", "/v1/files/{id}/peaks", self._files.peaks),
            ("GET", "/v1/files/{id}/analysis", self._files.analysis),
            ("GET", "/v1/files/{id}/analysis/progress", self._files.analysis_progress),
        ]
        doors: dict[str, dict[str, Door]] = {}
        for method, path, door in table:
            doors.setdefault(path, {})[method] = door
        return [Route(path, _by_method(methods), methods=list(methods)) for path, methods in doors.items()]

    # the server

    async def health(self, request: Request) -> Response:
        """Whether the server is there, and can write its queue."""
        del request
        return answer({"status": "ok", "version": __version__})

    async def document(self, request: Request) -> Response:
        """The OpenAPI document."""
        del request
        return answer(document())

    async def login(self, request: Request) -> Response:
        """A browser gets the token as a cookie that no script can read."""
        given = (await read_json_body(request)).get("token")
        token = self._settings.token
        if token is not None and not (isinstance(given, str) and is_token(given, token)):
            raise RefusedError(401, "unauthorized", "this is not the server's token", field="token")
        response = answer({"status": "ok"})
        if token is not None:
            response.set_cookie(COOKIE, token, httponly=True, samesite="strict", path="/")
        return response

    async def status(self, request: Request) -> Response:
        """Workers, what waits, and the limits."""
        del request
        limits = self._settings.limits
        return answer(
            {
                "version": __version__,
                "workers": self._supervisor.facts(),
                "jobs": {str(state): count for state, count in self._queue.counts().items()},
                "limits": {
                    "jobs": limits.jobs,
                    "upload_bytes": limits.upload_bytes,
                    "stored_bytes": limits.stored_bytes,
                    "seconds": limits.seconds,
                    "waiting_seconds": limits.waiting_seconds,
                },
            }
        )

    async def models(self, request: Request) -> Response:
        """What requests may name."""
        del request
        return answer(views.models(self._settings.catalogue))

    # videos

    async def create(self, request: Request) -> Response:
        """A new job."""
        key = request.headers.get("idempotency-key")
        if key is not None and not 0 < len(key) <= IDEMPOTENCY_LETTERS:
            raise RefusedError(400, "invalid_request", f"Idempotency-Key: expected 1 to {IDEMPOTENCY_LETTERS} letters")
        form = await read_form(request, self._uploads, self._settings.limits)
        job, is_new = await run_in_threadpool(self._create, form, key)
        return self._added(job) if is_new else self._told(job)

    def _added(self, job: Job) -> Response:
        """The answer with a new job, of which workers and listeners are told."""
        self._supervisor.wake()
        self._hub.changed(job.id)
        return self._told(job)

    def _told(self, job: Job) -> Response:
        return answer(self._shown(job), 200, {"Location": f"/v1/videos/{job.id}"})

    def _create(self, form: Form, key: str | None) -> tuple[Job, bool]:
        kept: list[Upload] = []
        is_used = False
        try:
            _, new = self._asked(form, kept, key)
            limits = self._settings.limits
            check_room(self._uploads, limits)
            job, is_used = self._queue.add(new, limits)
        finally:
            form.discard()
            if not is_used:
                for upload in kept:
                    self._uploads.remove(upload.id)
        return job, is_used

    def _asked(self, form: Form, kept: list[Upload], key: str | None = None) -> tuple[Wanted, NewJob]:
        """What a form asks for, as a job; `kept` gets the files that came with it."""
        wanted, uploads = self._wanted(form, kept)
        new, most = new_job(wanted, self._settings.catalogue, uploads, key), self._settings.limits.seconds
        if new.seconds > most:
            message = f"this video has {new.seconds:g} s: expected at most {most:g}"
            field = next((name for name in LENGTHS if name in wanted.fields), LENGTHS[0])
            raise RefusedError(400, "invalid_request", message, field=field)
        return wanted, new

    def _wanted(self, form: Form, kept: list[Upload]) -> tuple[Wanted, Mapping[str, Upload]]:
        """What a form asks for; its files are kept, and added to `kept`."""
        fields = form.fields if form.is_json else text_values(form.fields)
        unknown = next((name for name in form.files if uploaded_field(known_name(name)) is None), None)
        if unknown is not None:
            raise InputError(f"there is no file {unknown!r}: expected {', '.join(UPLOADED)}", field=unknown)
        twice = next((name for name in form.files if name in fields), None)
        if twice is not None:
            raise InputError(f"{twice} is given twice: give it once", field=twice)
        read_wanted({**fields, **dict.fromkeys(form.files, "a file")})  # before any time is spent on files
        sent = dict(fields)
        for name, file in form.files.items():
            upload = self._uploads.keep(file.path, file.name, file.sha256, field=known_name(name))
            kept.append(upload)
            sent[name] = upload.id
        wanted = read_wanted(sent)
        if "audio" not in wanted.files:
            raise InputError("there is no sound: send one as `audio`, or name an upload by its id", field="audio")
        return wanted, self._uploads.check(wanted.files)

    async def list(self, request: Request) -> Response:
        """A page of jobs."""
        limit = page_size(request)
        order = choice(request, "order", ("desc", "asc"))
        state = request.query_params.get("state")
        found = await run_in_threadpool(
            self._queue.page,
            after=request.query_params.get("after"),
            limit=limit + 1,
            newest_first=order == "desc",
            state=None if state is None else State(choice(request, "state", tuple(map(str, State)))),
        )
        shown = found[:limit]
        positions = await run_in_threadpool(self._queue.positions, shown)
        rows = [self._viewed(job, positions.get(job.id)) for job in shown]
        return answer(views.listed(rows, has_more=len(found) > limit))

    async def show(self, request: Request) -> Response:
        """A job as it is now; one that has failed is no error of this request."""
        snapshot = self._snapshots.of(request.path_params["id"])  # a row at most: quicker here than in a thread
        if snapshot is None:
            raise not_found(f"video {request.path_params['id']!r}")
        return Response(snapshot, media_type=JSON)

    def _shown(self, job: Job) -> dict[str, Any]:
        return self._viewed(job, self._queue.position(job))

    def _viewed(self, job: Job, position: int | None) -> dict[str, Any]:
        return views.video(job, self._hub.live(job.id), position, keep_seconds=self._settings.keep_seconds)

    async def delete(self, request: Request) -> Response:
        """Stop a job if need be, and remove all of it."""
        job = await run_in_threadpool(self._queue.delete, request.path_params["id"])
        self._supervisor.wake()
        self._hub.changed(job.id)
        return answer({"id": job.id, "object": "video.deleted", "deleted": True})

    async def cancel(self, request: Request) -> Response:
        """Stop a job."""
        return await self._change(request, self._queue.cancel)

    async def retry(self, request: Request) -> Response:
        """Put one that has failed into the queue again."""
        return await self._change(request, self._queue.retry)

    async def _change(self, request: Request, change: Callable[[str], Job]) -> Response:
        job = await run_in_threadpool(change, request.path_params["id"])
        self._supervisor.wake()
        self._hub.changed(job.id)
        return answer(self._shown(job))

    async def content(self, request: Request) -> Response:
        """The video, what there is of it so far, its first picture, or pictures from its beginning to its end."""
        job = self._queue.job(request.path_params["id"])
        variant = choice(request, "variant", VARIANTS)
        folder = self._settings.job_folder(job.id)
        if variant == "partial" and job.state is not State.SUCCEEDED:
            # the whole video takes the partial one's place a moment before the job is known to have succeeded
            return await send_file(request, folder / PARTIAL, "video/mp4", instead=folder / VIDEO, is_final=False)
        if job.state is not State.SUCCEEDED:
            how = "; ?variant=partial is what there is so far" if job.state is State.RUNNING else ""
            raise RefusedError(409, "not_ready", f"this video is {job.state}{how}")
        if variant in DRAWN_BY:
            picture = await run_in_threadpool(picture_of, folder, variant, self._planner)
            return await send_file(request, picture, "image/jpeg")
        sound = self._uploads.paths({"audio": job.files["audio"]})["audio"]
        return await send_file(request, folder / VIDEO, "video/mp4", name=f"{sound.stem}.mp4")

    async def preview(self, request: Request) -> Response:
        """The newest picture of what is being rendered."""
        job = self._queue.job(request.path_params["id"])
        return await send_file(request, self._settings.job_folder(job.id) / PREVIEW, "image/jpeg", is_final=False)

    async def events(self, request: Request) -> Response:
        """Every change of a job, as it happens."""
        job = self._queue.job(request.path_params["id"])
        return self._stream(job.id)

    async def all_events(self, request: Request) -> Response:
        """Every change of any job, as it happens."""
        del request
        return self._stream(None)

    def _stream(self, job: str | None) -> Response:
        return StreamingResponse(
            stream_jobs(self._hub, self._queue, self._snapshots, job),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    # what it would take

    async def plan(self, request: Request) -> Response:
        """What a request would make and take; nothing is rendered, and nothing kept."""
        form = await read_form(request, self._uploads, self._settings.limits)
        return answer(await run_in_threadpool(self._plan, form))

    def _plan(self, form: Form) -> Any:
        kept: list[Upload] = []
        try:
            wanted, new = self._asked(form, kept)
            request = plan_request(new, self._uploads.paths(wanted.files), self._settings)
            found = self._planner.ask("plan", request, seconds=PLAN_SECONDS)
            found["notes"] = [self._hide(note) for note in found["notes"]]
            return {"object": "plan", "model": new.model, **found}
        finally:
            form.discard()
            for upload in kept:
                self._uploads.remove(upload.id)


def _by_method(doors: Mapping[str, Door]) -> Door:
    """One door for a path: who comes by another method is told of all of them."""

    async def enter(request: Request) -> Response:
        return await doors["GET" if request.method == "HEAD" else request.method](request)

    return enter
