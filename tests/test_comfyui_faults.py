"""What befalls a render on a ComfyUI server between here and there: none of it costs a second render."""

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest

from comfyui_renders import NEVER, VERSIONS, CrashError, Serve, crash_at, labels, nodes, plan
from comfyui_server import ContractServer, Odd, read_label
from command import REPO, SMALL, finish, run_here, start
from serving import wait_for
from soundreel.engines.comfyui import ComfyUIEngine, client, downloads, events, patience, watch
from soundreel.engines.comfyui.export import export_workflow
from soundreel.engines.comfyui.pictures import output_files
from soundreel.engines.comfyui.record import PromptRecord
from soundreel.errors import Cancelled, EngineError, InputError, WeightsError
from soundreel.request import Request
from soundreel.types import Progress, Report, Stage
from starts import starts_from

pytest_plugins = ("comfyui_fixtures",)

pytestmark = pytest.mark.usefixtures("no_patience_wasted")

Ask = Callable[..., Request]

LONG = pytest.mark.long

CERTIFICATE = Path(__file__).parent / "comfyui_server" / "certificate.pem"
"""Of 127.0.0.1, signed by itself, with its key; nothing else uses it."""

PASSING = {
    "a page": Odd(),
    "null": Odd(b"null", content_type="application/json"),
    "404": Odd(status=404),
    "429": Odd(status=429),
    "500": Odd(b"", status=500),
}

ROUTES = ("system_stats", "object_info", "features", "upload/image", "prompt", "queue", "history", "view")

STUMBLES = [
    pytest.param(*case, marks=() if case[0] == "0.33.0" and (case[2] == "a page" or case[1] == "prompt") else LONG)
    for case in product(("0.33.0", "0.3.64"), ROUTES, (*PASSING, "lost"))
]
"""Version, route and fault: quick are all routes with one fault, and all faults at one route."""


def go_on(request: Request, scratch: Path, prepared: Callable[[], None], report: Report) -> Iterator[int]:
    """The labels of a render for which something happens once it is prepared."""
    engine = ComfyUIEngine()
    ready = engine.prepare(plan(request))
    prepared()
    for rendered in engine.render(ready, starts_from(ready.plan, scratch), report):
        yield from map(read_label, rendered.frames)


class TestTransient:
    """What passes is waited for, in the same prompt."""

    @pytest.mark.parametrize(("version", "route", "fault"), STUMBLES)
    def test_any_route_may_stumble(
        self, serve: Serve, ask: Ask, scratch: Path, version: str, route: str, fault: str
    ) -> None:
        server = serve(version)
        called = f"{'POST' if route in ('upload/image', 'prompt') else 'GET'} /{route}"

        def stumble() -> None:
            if fault == "lost":
                server.faults.loses_answers[called] = 2
            else:
                odd = PASSING[fault]
                server.faults.answers[called] = Odd(odd.body, odd.status, odd.content_type, times=2)

        told: list[str] = []
        request = ask(urls=(server.url,), frames=5, steps=1)
        shown = list(go_on(request, scratch, stumble, lambda progress: told.append(progress.what)))
        assert shown == list(range(5))
        assert len({prompt.id for prompt in server.prompts}) == 1
        assert not any("restarted" in what or "once more" in what for what in told)

    @pytest.mark.parametrize("fault", ["429", "500"])
    def test_at_the_first_word_too(
        self, server: ContractServer, ask: Ask, scratch: Path, fault: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(patience, "BRIEF_SECONDS", NEVER)
        for route in ("GET /system_stats", "GET /object_info", "GET /queue"):
            server.faults.answers[route] = Odd(status=PASSING[fault].status, times=2)
        assert labels(ask(), scratch) == list(range(9))

    def test_what_does_not_pass_is_an_error_in_the_end(
        self, server: ContractServer, ask: Ask, scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(patience, "OUTAGE_SECONDS", 0.1)
        told: list[str] = []

        def stumble() -> None:
            server.faults.answers["POST /upload/image"] = Odd(times=10_000)

        with pytest.raises(EngineError, match="something answers for http://127"):
            list(go_on(ask(), scratch, stumble, lambda progress: told.append(progress.what)))
        assert any("trying again" in what for what in told)

    def test_a_stop_is_heard_meanwhile(self, server: ContractServer, ask: Ask, scratch: Path) -> None:
        def report(progress: Progress) -> None:
            if "trying again" in progress.what:
                raise Cancelled("stop")

        def stumble() -> None:
            server.faults.answers["POST /prompt"] = Odd(times=10_000)

        with pytest.raises(Cancelled):
            list(go_on(ask(), scratch, stumble, report))

    def test_a_prompt_whose_answer_was_lost_is_queued_once(
        self, server: ContractServer, ask: Ask, scratch: Path
    ) -> None:
        server.faults.loses_answers["POST /prompt"] = 1
        assert labels(ask(), scratch) == list(range(9))
        assert server.requests.count("POST /prompt") == 1

    def test_a_prompt_whose_answer_was_lost_is_cancelled_too(
        self, server: ContractServer, ask: Ask, scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(patience, "BRIEF_SECONDS", NEVER)
        server.faults.loses_answers["POST /prompt"] = 1
        server.holds[1] = lambda: False

        def report(progress: Progress) -> None:
            if "trying again" in progress.what:
                raise Cancelled("stop")

        with pytest.raises(Cancelled):
            labels(ask(), scratch, report)
        assert len(server.prompts) == 1
        server.wait_for(lambda: not server.queued_ids)
        assert PromptRecord.read(scratch) is None

    def test_cancelling_is_tried_again(
        self, server: ContractServer, ask: Ask, scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(patience, "BRIEF_SECONDS", NEVER)
        server.holds[2] = lambda: False

        def report(progress: Progress) -> None:
            if progress.step == 1:
                server.faults.answers["POST /api/jobs"] = Odd(status=502, times=2)
                raise Cancelled("stop")

        with pytest.raises(Cancelled):
            labels(ask(steps=50), scratch, report)
        server.wait_for(lambda: not server.queued_ids)
        assert PromptRecord.read(scratch) is None

    def test_what_could_not_be_cancelled_is_found_again(self, server: ContractServer, ask: Ask, scratch: Path) -> None:
        server.holds[2] = lambda: "found the render that was begun before" in told
        told: list[str] = []

        def report(progress: Progress) -> None:
            if progress.step == 1:
                server.faults.answers["POST /api/jobs"] = Odd(status=502, times=10_000)
                raise Cancelled("stop")

        with pytest.raises(Cancelled):
            labels(ask(steps=4), scratch, report)
        assert labels(ask(steps=4), scratch, lambda progress: told.append(progress.what)) == list(range(9))
        assert len(server.prompts) == 1


@pytest.mark.timeout(60)
def test_a_server_that_no_longer_answers_is_not_waited_for_without_end(
    server: ContractServer, ask: Ask, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor while the prompt waits in the queue, where there is no progress to be missed."""
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(patience, "BRIEF_SECONDS", NEVER)
    server.occupy(1)
    told: list[str] = []

    def report(progress: Progress) -> None:
        told.append(progress.what)
        server.faults.is_silent = told[-1] == "1 before this one" or server.faults.is_silent

    with pytest.raises(EngineError, match=r"has not answered for 1 s.*the same command goes on.*--timeout"):
        labels(ask(timeout=0.6), scratch, report)
    assert "does not answer, waiting for it" in told[-1]
    server.faults.is_silent = False
    server.release()
    assert labels(ask(), scratch) == list(range(9))
    assert len(server.prompts) == 1


@pytest.mark.timeout(50)  # less than a server has for an answer
@pytest.mark.parametrize(("version", "presses", "queued"), [("0.33.0", 1, 2), ("0.33.0", 2, 2), ("0.3.64", 1, 1)])
def test_ctrl_c_does_not_wait_for_a_server_that_is_silent(
    serve: Serve,
    tune: Path,
    tmp_path: Path,
    version: str,
    presses: int,
    queued: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second one changes nothing. The same command goes on, also where the server stops the prompt when it awakes."""
    monkeypatch.setattr(client, "PARTING_SECONDS", 0.5)
    server, is_reached, may_go_on = serve(version), threading.Event(), threading.Event()
    server.holds[2] = lambda: is_reached.set() or may_go_on.is_set()
    there = ("--engine", "comfyui", "--url", server.url)
    command = ("generate", tune, *SMALL, "--frames", "9", *there, "-o", tmp_path / "a.mp4")

    def press() -> None:
        is_reached.wait(NEVER)
        server.faults.is_silent = True
        for _ in range(presses):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            wait_for(lambda: any(asked.endswith("/cancel") for asked in server.requests))

    pressing = threading.Thread(target=press)
    pressing.start()
    stopped = run_here(capsys, *command)
    pressing.join()
    assert stopped.code == 130
    assert "cancelled" in stopped.err
    server.faults.is_silent = False
    if version == "0.33.0":
        server.wait_for(lambda: server.prompts[0].interrupted)
    may_go_on.set()
    done = run_here(capsys, *command)
    assert done.code == 0, done.err
    assert len(server.prompts) == queued


@pytest.mark.parametrize("version", VERSIONS)
class TestDownloads:
    @pytest.mark.parametrize("without_length", [False, True])
    def test_a_shortened_file_is_fetched_again(
        self, serve: Serve, ask: Ask, scratch: Path, version: str, without_length: bool
    ) -> None:
        server = serve(version)
        server.faults.shortens_downloads, server.faults.without_length = 1, without_length
        assert labels(ask(urls=(server.url,)), scratch) == list(range(9))
        assert len(server.prompts) == 1

    def test_a_page_is_no_picture(self, serve: Serve, ask: Ask, scratch: Path, version: str) -> None:
        server = serve(version)
        server.faults.answers["GET /view"] = Odd(content_type="application/octet-stream")
        assert labels(ask(urls=(server.url,)), scratch) == list(range(9))
        assert len(server.prompts) == 1

    def test_an_empty_file_neither(self, serve: Serve, ask: Ask, scratch: Path, version: str) -> None:
        server = serve(version)
        server.faults.answers["GET /view"] = Odd(b"", content_type="video/mp4")
        assert labels(ask(urls=(server.url,)), scratch) == list(range(9))
        assert len(server.prompts) == 1

    def test_a_file_that_never_comes_whole_is_not_forgotten(
        self, serve: Serve, ask: Ask, scratch: Path, version: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(downloads, "WHOLE_TRIES", 1)
        server = serve(version)
        server.faults.shortens_downloads = 100
        with pytest.raises(EngineError, match="each download"):
            labels(ask(urls=(server.url,)), scratch)
        server.faults.shortens_downloads = 0
        assert labels(ask(urls=(server.url,)), scratch) == list(range(9))
        assert len(server.prompts) == 1


@pytest.mark.parametrize("version", VERSIONS)
class TestWithoutHistory:
    def test_what_was_saved_is_found_by_its_name(
        self, serve: Serve, ask: Ask, scratch: Path, version: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch, "LATE_HISTORY_SECONDS", 0.0)
        server = serve(version)
        server.faults.forgets_results = True
        assert labels(ask(urls=(server.url,)), scratch) == list(range(9))
        assert len(server.prompts) == 1

    def test_after_a_restart_too(self, serve: Serve, ask: Ask, scratch: Path, version: str) -> None:
        server = serve(version)
        request = ask(urls=(server.url,))
        with pytest.raises(CrashError):
            labels(request, scratch, crash_at(Stage.DOWNLOAD, 0))
        server.kill()
        server.restart()
        assert labels(request, scratch) == list(range(9))
        assert len(server.prompts) == 1

    def test_after_success_was_heard_the_history_is_awaited(
        self, serve: Serve, ask: Ask, scratch: Path, version: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch, "LATE_HISTORY_SECONDS", NEVER)
        server = serve(version)
        server.faults.late_history = 20
        told: list[str] = []
        assert labels(ask(urls=(server.url,)), scratch, lambda p: told.append(p.what)) == list(range(9))
        assert server.faults.late_history == 0
        assert len(server.prompts) == 1

    def test_where_nothing_was_saved_it_is_queued_once_more_and_nobody_is_said_to_have_restarted(
        self, serve: Serve, ask: Ask, scratch: Path, version: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch, "LATE_HISTORY_SECONDS", 0.0)
        server = serve(version)
        server.faults.forgets_results, server.faults.loses_files = True, 1
        told: list[str] = []

        def report(progress: Progress) -> None:
            told.append(progress.what)
            if "once more" in progress.what:
                server.faults.forgets_results = False

        assert labels(ask(urls=(server.url,)), scratch, report) == list(range(9))
        assert "the server no longer knows of it: queued once more" in told
        assert len(server.prompts) == 2

    def test_half_a_file_of_a_server_that_was_killed_is_no_result(
        self, serve: Serve, ask: Ask, scratch: Path, version: str
    ) -> None:
        server = serve(version)
        request = ask(urls=(server.url,))
        with pytest.raises(CrashError):
            labels(request, scratch, crash_at(Stage.DOWNLOAD, 0))
        for file in server.folder.rglob(f"{server.prompts[0].id}*"):
            file.write_bytes(file.read_bytes()[:-40])
        for file in (scratch / "pictures").iterdir():
            file.unlink()
        server.kill()
        server.restart()
        assert labels(request, scratch) == list(range(9))
        assert len(server.prompts) == 2


class TestOddOutputs:
    def test_outputs_of_custom_nodes_may_be_anything(self) -> None:
        listed = {"filename": "a_00001_.mp4", "subfolder": "x", "type": "output"}
        outputs = {
            "text": {"text": "hello", "count": 3, "ui": {"a": 1}},
            "none": None,
            "list": [1],
            "odd": {"images": [None, 3, {"filename": 7}, {"other": 1}]},
            "save": {"images": [listed], "animated": [True]},
        }
        assert [file.filename for file in output_files({"outputs": outputs})] == ["a_00001_.mp4"]
        with pytest.raises(EngineError, match="saved neither"):
            output_files({"outputs": [1]})

    @pytest.mark.parametrize(
        "message",
        [
            *(b"\0\0\0\4" + len(about).to_bytes(4) + about + b"\xff\xd8" for about in (b"[1]", b"3", b"null", b"\xff")),
            *(b"", b"\0", b"\0\0\0\4", b"\0\0\0\4\xff\xff\xff\xff"),
            *("null", "[1]", "3", '{"type": 3}', '{"type": "progress", "data": [1]}', '{"data": {}}', "no json"),
        ],
    )
    def test_messages_of_another_form_are_none(self, message: str | bytes) -> None:
        assert events._parse(message) is None

    def test_progress_of_another_form_is_none(self, server: ContractServer, ask: Ask, scratch: Path) -> None:
        server.odd_messages = [
            ("progress", {"node": ["sample_1"], "value": 1, "max": 2}),
            ("progress", {"node": "sample_1", "value": "x", "max": None}),
            ("progress_state", {"nodes": [1]}),
            ("progress_state", {"nodes": {"sample_1": 3}}),
            ("executing", {"node": {"a": 1}}),
        ]
        assert labels(ask(), scratch) == list(range(9))


class TestReconnected:
    def test_progress_is_told_by_the_states_of_nodes(self, server: ContractServer, ask: Ask, scratch: Path) -> None:
        server.faults.tells_states_only = True
        told: list[Progress] = []
        labels(ask(frames=100), scratch, told.append)
        steps = [(p.clip, p.step, p.done, p.total) for p in told if p.stage is Stage.RENDER and p.step]
        assert steps == [(1, 1, 1, 4), (1, 2, 2, 4), (2, 1, 3, 4), (2, 2, 4, 4)]


class TestSeveralServers:
    def test_one_without_the_models_of_a_graph_is_never_taken(
        self, serve: Serve, ask: Ask, scratch: Path, tmp_path: Path
    ) -> None:
        bare, full = serve(), serve()
        graph = self._graph_of(full, ask, tmp_path)
        bare.models["VAELoader", "vae_name"] = ["another.safetensors"]
        full.occupy(1)
        full.wait_for(lambda: bool(full.queued_ids))

        def report(progress: Progress) -> None:
            if progress.stage is Stage.QUEUE:
                full.release()

        for place in range(4):
            folder = scratch / str(place)
            folder.mkdir()
            request = ask(urls=(bare.url, full.url), workflow=graph, seed=place)
            assert labels(request, folder, report) == list(range(9))
        assert not bare.prompts

    def test_nor_one_without_the_nodes(self, serve: Serve, ask: Ask, scratch: Path) -> None:
        old, new = serve(), serve()
        del old.info["LatentCut"]
        for place in range(4):
            (scratch / str(place)).mkdir()
            assert labels(ask(urls=(old.url, new.url), seed=place), scratch / str(place)) == list(range(9))
        assert not old.prompts

    def test_where_none_has_them_each_says_what_it_lacks(
        self, serve: Serve, ask: Ask, tmp_path: Path, scratch: Path
    ) -> None:
        one, other = serve(), serve()
        graph = self._graph_of(one, ask, tmp_path)
        for server in (one, other):
            server.models["VAELoader", "vae_name"] = ["another.safetensors"]
        with pytest.raises(
            WeightsError, match=r"none of 2 servers.*no wan_2\.1_vae\.safetensors for VAELoader: it has another"
        ):
            labels(ask(urls=(one.url, other.url), workflow=graph), scratch)

    def test_a_server_that_has_the_prompt_and_stumbles_is_waited_for(
        self, serve: Serve, ask: Ask, scratch: Path
    ) -> None:
        one, other = serve(), serve()
        request = ask(urls=(one.url, other.url))
        other.occupy(1)
        other.wait_for(lambda: bool(other.queued_ids))
        with pytest.raises(CrashError):
            labels(request, scratch, crash_at(Stage.RENDER))
        other.release()

        def stumble() -> None:
            one.faults.answers["GET /system_stats"] = Odd(times=3)

        assert list(go_on(request, scratch, stumble, lambda _: None)) == list(range(9))
        assert (len(one.prompts), len(other.prompts)) == (1, 0)

    @staticmethod
    def _graph_of(server: ContractServer, ask: Ask, folder: Path) -> Path:
        """A graph of the user's own."""
        (folder / "first").mkdir()
        labels(ask(urls=(server.url,)), folder / "first")
        path = folder / "graph.json"
        path.write_text(json.dumps(server.prompts.pop().graph), encoding="utf-8")
        return path


class TestNewerVersions:
    def test_new_required_inputs_take_the_default_of_the_server(
        self, server: ContractServer, ask: Ask, scratch: Path
    ) -> None:
        inputs = {
            "mode": [["a", "b"], {"default": "b"}],
            "first": [["a", "b"], {}],
            "new": ["COMBO", {"options": ["x", "y"]}],
            "amount": ["FLOAT", {"default": 0.5}],
            "dynamic": [
                "COMFY_DYNAMICCOMBO_V3",
                {"options": [{"key": "k", "inputs": {"required": {"deep": ["INT", {"default": 3}]}}}]},
            ],
        }
        server.info["VAEDecode"]["input"]["required"].update(inputs)
        assert labels(ask(), scratch) == list(range(9))
        (decode,) = nodes(server.prompts[0].graph, "VAEDecode")
        chosen = {name: decode.get(name) for name in (*inputs, "dynamic.deep")}
        assert chosen == {"mode": "b", "first": "a", "new": "x", "amount": 0.5, "dynamic": "k", "dynamic.deep": 3}

    def test_in_an_exported_graph_too(self, server: ContractServer, ask: Ask, tmp_path: Path) -> None:
        server.info["VAEDecode"]["input"]["required"]["mode"] = [["a", "b"], {"default": "b"}]
        graph = json.loads(export_workflow(ask(), tmp_path / "graph.json")[0].read_text(encoding="utf-8"))
        assert nodes(graph, "VAEDecode")[0]["mode"] == "b"

    def test_what_has_no_default_is_named(self, server: ContractServer, ask: Ask, scratch: Path) -> None:
        server.info["VAEDecode"]["input"]["required"]["extra"] = ["MODEL", {}]
        with pytest.raises(EngineError, match="would refuse the graph: VAEDecode needs extra"):
            labels(ask(), scratch)

    def test_nodes_are_asked_for_once(self, server: ContractServer, ask: Ask) -> None:
        ComfyUIEngine().prepare(plan(ask(frames=200)))
        assert [called for called in server.requests if "object_info" in called] == ["GET /object_info"]


class TestAddresses:
    def test_a_token_in_the_url_reaches_the_socket_too(self, serve: Serve, ask: Ask, scratch: Path) -> None:
        server = serve(prefix="/comfy")
        told: list[Progress] = []
        assert labels(ask(urls=(f"{server.url}?token=hush%20hush",)), scratch, told.append) == list(range(9))
        assert all(query.get("token") == "hush hush" for query in server.queries)
        assert any(called == "GET /ws" for called in server.requests)
        assert any(progress.step for progress in told)
        record = PromptRecord.read(scratch)
        assert record is not None
        assert "hush" not in record.url

    def test_a_certificate_signed_by_itself(
        self, serve: Serve, ask: Ask, scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = serve(certificate=CERTIFICATE)
        with pytest.raises(EngineError, match=r"is not trusted \(.*self.signed.*--ca-file FILE .*SSL_CERT_FILE"):
            labels(ask(urls=(server.url,)), scratch)
        told: list[Progress] = []
        trusting = ask(urls=(server.url,), ca_file=CERTIFICATE)
        assert labels(trusting, scratch, told.append) == list(range(9))
        assert any(progress.step for progress in told), "the socket is trusted too"
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        assert labels(ask(urls=(server.url,), seed=1), scratch) == list(range(9))

    @pytest.mark.parametrize("content", [None, "no certificate"])
    def test_a_ca_file_that_is_none(self, ask: Ask, scratch: Path, tmp_path: Path, content: str | None) -> None:
        path = tmp_path / "ca.pem"
        if content is not None:
            path.write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match=r"--ca-file .*ca\.pem' cannot be used .*PEM"):
            labels(ask(urls=("https://127.0.0.1:1",), ca_file=path), scratch)

    def test_on_the_command_line(
        self, serve: Serve, tune: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        server = serve(certificate=CERTIFICATE)
        command = ("generate", tune, *SMALL, "--engine", "comfyui", "--url", server.url, "-o", tmp_path / "a.mp4")
        assert run_here(capsys, *command).code == 5
        done = run_here(capsys, *command, "--ca-file", CERTIFICATE)
        assert done.code == 0, done.err

    @pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "odd://127.0.0.1:9"])
    @pytest.mark.parametrize("where", [("--engine", "comfyui", "--url"), ("--remote",)])
    def test_a_proxy_that_cannot_be_used(
        self,
        tune: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        proxy: str,
        where: tuple[str, ...],
    ) -> None:
        monkeypatch.setenv("ALL_PROXY", proxy)
        if proxy.startswith("socks5"):
            monkeypatch.setitem(sys.modules, "socksio", None)  # not installed
        done = run_here(capsys, "generate", tune, *SMALL, *where, "http://gpu1:8188", "-o", tmp_path / "a.mp4")
        assert done.code == 5
        assert done.err.count("\n") == 1
        assert "that the environment names" in done.err or "the environment names a SOCKS proxy" in done.err

    def test_the_seed_script_takes_headers(self, serve: Serve, tune: Path, tmp_path: Path) -> None:
        server = serve(header=("X-Key", "open sesame"), certificate=CERTIFICATE)
        script = (str(REPO / "scripts" / "generate_wan22_sound_video.py"),)
        there = ("--url", server.url, "--ca-file", CERTIFICATE, "--header", "X-Key: open sesame", "--header", "X-A: b")
        done = finish(start(tune, *SMALL, "--frames", "5", *there, program=script, cwd=tmp_path))
        assert done.code == 0, done.err
        assert len(server.prompts) == 1
