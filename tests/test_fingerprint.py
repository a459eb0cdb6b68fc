"""A request as data: every field is classified, secrets stay out, and what changes pictures changes the fingerprint."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from soundreel.errors import InputError
from soundreel.render.fingerprint import ROLES, Role, field_names, from_data, request_parts, to_data
from soundreel.render.prepared import Job, prepare
from soundreel.request import AvAlign, ClipSplit, Memory, Precision, RefFit, Request, Server, Solver, VaePrecision

OTHER: dict[str, Any] = {
    "prompt": "red",
    "negative_prompt": "blue",
    "audio_start": 0.5,
    "audio_duration": 1.0,
    "width": 80,
    "height": 80,
    "seed": 1,
    "start_from_ref": True,
    "ref_fit": RefFit.REFERENCE,
    "av_align": AvAlign.REFERENCE,
    "steps": 4,
    "guide_scale": 1.0,
    "shift": 5.0,
    "solver": Solver.EULER,
    "sigmas": (1.0, 0.5),
    "turbo": True,
    "attention": "sdpa",
    "precision": Precision.BF16,
    "vae_precision": VaePrecision.FP32,
    "memory": Memory.GB24,
    "cache": 0.05,
    "cfg_interval": (0.0, 0.5),
    "device": "cpu",
    "color_match": True,
    "crf": 30,
}
"""Another value for every field that makes a difference by itself."""

OTHER_SERVER: dict[str, Any] = {
    "diffusion_model": "a",
    "text_encoder": "b",
    "vae": "c",
    "audio_encoder": "d",
    "first_frame_fix": False,
}

SECRET_SERVER = Server(urls=("https://ann:hush@example.org/comfy",), headers=("Authorization: Bearer hush",), timeout=9)

ELSEWHERE: list[dict[str, Any]] = [
    {"frames": 20},
    {"frames": None, "full": True},
    {"num_clip": 1, "infer_frames": 16},
    {"infer_frames": 8},
    {"clip_split": ClipSplit.FULL},
    {"interpolate": "motion"},
]
"""By what comes of them: the plan, or the method."""


@pytest.fixture
def request_(tune: Path, cover: Path) -> Request:
    return Request(audio=tune, ref_image=cover, width=64, height=64, engine="draft")


def changed(request: Request, **fields: Any) -> Job:
    return prepare(dataclasses.replace(request, **fields))


def test_every_field_is_classified_and_no_other() -> None:
    """A new field of `Request` belongs into `ROLES`."""
    assert set(ROLES) == set(field_names(Request))


def test_every_value_is_tried_here() -> None:
    values = {name for name, role in ROLES.items() if role is Role.VALUE}
    assert {*OTHER, *(f"server.{name}" for name in OTHER_SERVER)} == values


@pytest.mark.parametrize(
    "fields",
    [
        *({name: value} for name, value in OTHER.items()),
        *({"server": Server(**{name: value})} for name, value in OTHER_SERVER.items()),
        *ELSEWHERE,
    ],
    ids=str,
)
def test_what_changes_pictures_changes_the_fingerprint(request_: Request, fields: dict[str, Any]) -> None:
    base = changed(request_, frames=40)
    other = changed(request_, **{"frames": 40, **fields})
    assert other.fingerprint.digest != base.fingerprint.digest


@pytest.mark.parametrize(
    "fields",
    [
        {"output": "other.mp4"},
        {"output_dir": "elsewhere"},
        {"settings": "tag"},
        {"preview": True},
        {"frames": 77, "full": True},
        {"num_clip": 9},
        {"engine": "auto"},
        {"server": SECRET_SERVER},
    ],
)
def test_what_does_not_is_left_out(request_: Request, fields: dict[str, Any]) -> None:
    assert changed(request_, **fields).fingerprint.digest == changed(request_).fingerprint.digest


@pytest.mark.parametrize("name", ["audio", "ref_image"])
def test_files_count_by_their_content(request_: Request, tmp_path: Path, name: str) -> None:
    original = Path(getattr(request_, name))
    copy = tmp_path / f"copy{original.suffix}"
    copy.write_bytes(original.read_bytes())
    base = changed(request_).fingerprint
    assert changed(request_, **{name: copy}).fingerprint.digest == base.digest
    copy.write_bytes(original.read_bytes() + b"\0")
    assert base.differences(changed(request_, **{name: copy}).fingerprint.parts) == [name]


def test_model_files_and_version_count(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    job = changed(request_)
    other = dataclasses.replace(job, models={"transformer a.safetensors": "1-abc"})
    assert other.fingerprint.differences(job.fingerprint.parts) == ["models"]
    monkeypatch.setattr("soundreel.render.prepared.__version__", "99")
    assert changed(request_).fingerprint.differences(job.fingerprint.parts) == ["soundreel"]


# there and back


def test_a_request_survives_json(request_: Request) -> None:
    rich = dataclasses.replace(request_, **{name: value for name, value in OTHER.items() if name != "audio_duration"})
    rich = dataclasses.replace(rich, loras=("a.safetensors:0.5",), clip_seeds=(4, 5), clip_split=ClipSplit.FULL)
    back = from_data(json.loads(json.dumps(to_data(rich))))
    assert {name: str(value) for name, value in vars(back).items()} == {
        name: str(value) for name, value in vars(rich).items()
    }
    assert type(back.sampling.solver) is Solver
    assert type(back.sampling.sigmas) is tuple


def test_what_another_version_knows_is_left_out(request_: Request) -> None:
    assert from_data(to_data(request_) | {"invented_later": 1}).seed == 0


@pytest.mark.parametrize("data", [{}, {"audio": "a.wav", "width": "wide"}, {"audio": "a.wav", "solver": "magic"}])
def test_what_is_no_request_is_wrong_input(data: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        from_data(data)


def test_a_work_folder_can_be_gone_on_with_from_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("b.safetensors").touch()
    loras = ("b.safetensors:0.5", "on_a_server.safetensors:0.5")
    data = to_data(Request(audio="a.wav", loras=loras, output="c.mp4"), absolute=True)
    assert (data["audio"], data["output"]) == (str(tmp_path / "a.wav"), str(tmp_path / "c.mp4"))
    assert data["loras"] == [str(tmp_path / "b.safetensors:0.5"), "on_a_server.safetensors:0.5"]
    assert data["ref_image"] is None


def test_a_server_s_secrets_are_written_nowhere(request_: Request) -> None:
    data = to_data(dataclasses.replace(request_, server=SECRET_SERVER), absolute=True)
    assert data["server"]["urls"] == ["https://example.org/comfy"]
    assert "hush" not in json.dumps(data)


# dataclasses in a request, and secrets


@dataclass(frozen=True, kw_only=True)
class Place:
    urls: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    seed: int = 0
    place: Place = field(default_factory=Place)


ASKED_ROLES = {
    "seed": Role.VALUE,
    "place.urls": Role.ADDRESS,
    "place.headers": Role.SECRET,
    "place.model": Role.VALUE,
}

ASKED = Asked(
    place=Place(
        urls=("https://ann:hush@example.org:8188/comfy?x=1", "http://localhost:8188"),
        headers=("Authorization: Bearer hush",),
        model="a.safetensors",
    )
)


def test_fields_of_fields_have_names_of_their_own() -> None:
    assert list(field_names(Asked)) == list(ASKED_ROLES)


def test_secrets_and_passwords_are_kept_nowhere() -> None:
    data = to_data(ASKED, roles=ASKED_ROLES)
    assert data == {
        "seed": 0,
        "place": {"urls": ["https://example.org:8188/comfy?x=1", "http://localhost:8188"], "model": "a.safetensors"},
    }
    assert "hush" not in json.dumps(data)


def test_only_what_changes_pictures_of_a_field_s_fields_counts() -> None:
    assert request_parts(ASKED, ASKED_ROLES) == {"seed": 0, "place.model": "a.safetensors"}


def test_an_unknown_field_is_an_error() -> None:
    with pytest.raises(KeyError, match="place.urls"):
        to_data(ASKED, roles={"seed": Role.VALUE})
