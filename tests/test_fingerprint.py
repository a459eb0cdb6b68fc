"""What a render depends on: every field has a role, and another value changes just what its role says.

PIXELS and PLAN change what was asked, or a clip's fingerprint; ENCODING the clips' fingerprints only, so that the work
folder stays; IDENTITY what an engine decides, by which clips are told apart; NEITHER nothing. Secrets are kept nowhere.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from soundreel.errors import InputError
from soundreel.pipeline import generate
from soundreel.render.fingerprint import request_parts
from soundreel.render.prepared import PreparedRender, ask, prepare
from soundreel.request import Request, Server, Solver, WorkOptions
from soundreel.request.data import from_data
from soundreel.request.fields import Paths, Role, fields_of, group, option, settle, to_data

OTHER: dict[Role, dict[str, Any]] = {
    Role.PIXELS: {
        "audio": "a copy with one byte more",
        "drive": "a sound",
        "ref_image": "a copy with one byte more",
        "prompt": "red",
        "negative_prompt": "blue",
        "width": 80,
        "height": 80,
        "seed": 1,
        "window.start": 0.5,
        "window.duration": 2.0,
        "guide.pose_video": "any file",
        "guide.start_from_ref": True,
        "guide.ref_fit": "reference",
        "guide.av_align": "reference",
        "sampling.steps": 4,
        "sampling.guide_scale": 1.0,
        "sampling.shift": 5.0,
        "sampling.solver": "euler",
        "sampling.sigmas": (1.0, 0.5),
        "sampling.turbo": True,
        "sampling.cache": 0.05,
        "sampling.cfg_interval": (0.0, 0.5),
        "compute.attention": "sdpa",
        "compute.precision": "bf16",
        "compute.vae_precision": "fp32",
        "server.workflow": "any file",
        "server.diffusion_model": "a",
        "server.text_encoder": "b",
        "server.vae": "c",
        "server.audio_encoder": "d",
        "server.first_frame_fix": False,
    },
    Role.PLAN: {
        "clip_seeds": (9,),
        "cuts": (1.0,),
        "shots": ({"prompt": "red"},),
        "window.frames": 20,
        "window.full": True,
        "window.num_clip": 1,
        "window.default_clips": 1,
        "sampling.infer_frames": 8,
        "sampling.clip_split": "full",
    },
    Role.IDENTITY: {
        "engine": "auto",
        "compute.models": "elsewhere",
        "compute.loras": "any file",
        "compute.device": "cpu",
        "compute.memory": "24gb",
    },
    Role.ENCODING: {
        "output.crf": 30,
        "output.fps": 24,
        "output.interpolate": "motion",
        "output.weights": "any file",
        "output.color_match": True,
    },
    Role.NEITHER: {
        "compute.gpus": "2",
        "compute.parallel": "tokens",
        "storyboard": "song.toml",
        "recipe": None,  # of a video that is there: see test_recipe.py
        "server.urls": ("https://ann:hush@example.org/comfy",),
        "server.headers": ("Authorization: Bearer hush",),
        "server.ca_file": "proxy.pem",
        "server.timeout": 9.0,
        "output.path": "other.mp4",
        "output.dir": "elsewhere",
        "output.settings": "tag",
        "output.score": True,
        "output.preview": True,
        "output.write_recipe": False,
        "output.recipe_paths": True,
    },
}
"""Another value for every field, by role."""

BY_ITSELF_NOTHING = {"output.weights"}
"""Its network's content counts, and only where one is used."""

NO_LENGTH: dict[str, Any] = {"frames": None, "num_clip": None}


def cases(*roles: Role) -> list[tuple[str, Any]]:
    return [(name, value) for role in roles for name, value in OTHER[role].items() if name not in BY_ITSELF_NOTHING]


@pytest.fixture
def request_(tune: Path, cover: Path) -> Request:
    return Request(audio=tune, ref_image=cover, width=64, height=64, frames=40, infer_frames=16, engine="draft")


@pytest.fixture
def base(request_: Request) -> PreparedRender:
    return prepared(request_)


def prepared(request: Request) -> PreparedRender:
    return prepare(ask(request))


def changed(request: Request, name: str, value: Any, folder: Path) -> Request:
    """The request with another value of a field."""
    if value == "any file":
        value = folder / "any.file"
        value.write_bytes(b"anything")
        value = (str(value),) if name == "compute.loras" else value
    if value == "a sound":
        value = Path(request.audio)
    if value == "a copy with one byte more":
        before = Path(getattr(request, name))
        value = folder / f"copy{before.suffix}"
        value.write_bytes(before.read_bytes() + b"\0")
    if name in {"window.full", "window.default_clips"}:
        request = request.replace(**NO_LENGTH)
    outer, _, leaf = name.rpartition(".")
    if not outer:
        return request.replace(**{leaf: value})
    return request.replace(**{outer: dataclasses.replace(getattr(request, outer), **{leaf: value})})


# every field has a role


def test_every_field_is_declared_with_a_role_and_a_help() -> None:
    for field in fields_of(Request):
        assert isinstance(field.option.role, Role)
        assert field.option.help, f"{field.name} is not declared by `option`"


@pytest.mark.parametrize("role", Role)
def test_every_field_is_tried_here(role: Role) -> None:
    assert set(OTHER[role]) == {field.name for field in fields_of(Request) if field.option.role is role}


# and changes what its role says


@pytest.mark.parametrize(("name", "value"), cases(Role.PIXELS), ids=str)
def test_pixels_change_what_was_asked_and_every_clip(
    request_: Request, base: PreparedRender, tmp_path: Path, name: str, value: Any
) -> None:
    other = prepared(changed(request_, name, value, tmp_path))
    assert name in base.asked.fingerprint.differences(other.asked.fingerprint.parts)
    assert not set(other.clip_fingerprints) & set(base.clip_fingerprints)


@pytest.mark.parametrize(("name", "value"), cases(Role.PLAN), ids=str)
def test_the_plan_changes_what_was_asked_or_a_clip(
    request_: Request, base: PreparedRender, tmp_path: Path, name: str, value: Any
) -> None:
    other = prepared(changed(request_, name, value, tmp_path))
    assert other.clip_fingerprints != base.clip_fingerprints
    differences = base.asked.fingerprint.differences(other.asked.fingerprint.parts)
    changes_folder = not {"clips", "shots"}.isdisjoint(differences)
    assert changes_folder is (name != "clip_seeds"), "seeds are the clips' own: the folder stays"


@pytest.mark.parametrize(("name", "value"), cases(Role.ENCODING), ids=str)
def test_encoding_changes_the_clips_but_not_what_was_asked(
    request_: Request, base: PreparedRender, tmp_path: Path, name: str, value: Any
) -> None:
    other = prepared(changed(request_, name, value, tmp_path))
    assert other.asked.fingerprint == base.asked.fingerprint
    assert not set(other.clip_fingerprints) & set(base.clip_fingerprints)


@pytest.mark.parametrize(
    ("name", "value"), [*cases(Role.IDENTITY, Role.NEITHER), ("output.weights", "any file")], ids=str
)
def test_what_does_not_is_left_out(
    request_: Request, base: PreparedRender, tmp_path: Path, name: str, value: Any
) -> None:
    other = prepared(changed(request_, name, value, tmp_path))
    assert other.asked.fingerprint == base.asked.fingerprint
    assert other.clip_fingerprints == base.clip_fingerprints


def test_an_identity_tells_clips_apart_and_not_what_was_asked(base: PreparedRender) -> None:
    decided = dataclasses.replace(base.prepared, identity={"precision": "fp8"})
    other = dataclasses.replace(base, prepared=decided)
    assert other.asked.fingerprint == base.asked.fingerprint
    assert not set(other.clip_fingerprints) & set(base.clip_fingerprints)


def test_what_is_given_twice_counts_once(request_: Request, base: PreparedRender) -> None:
    """Other words for the same plan and the same frames."""
    for same in (request_.replace(num_clip=9), request_.replace(fps=16)):
        assert prepared(same).clip_fingerprints == base.clip_fingerprints


@pytest.mark.parametrize("name", ["audio", "ref_image"])
def test_files_count_by_their_content(request_: Request, base: PreparedRender, tmp_path: Path, name: str) -> None:
    original = Path(getattr(request_, name))
    copy = tmp_path / f"copy{original.suffix}"
    copy.write_bytes(original.read_bytes())
    assert ask(request_.replace(**{name: copy})).fingerprint == base.asked.fingerprint


@pytest.mark.parametrize("name", ["ref_image", "guide.pose_video", "server.workflow"])
def test_a_file_that_is_not_there_is_wrong_input(request_: Request, tmp_path: Path, name: str) -> None:
    missing = tmp_path / "gone"
    with pytest.raises(InputError, match="no such .*: .*gone"):
        _ = ask(changed(request_, name, missing, tmp_path)).fingerprint


def test_model_files_and_the_version_of_pictures_count(base: PreparedRender, monkeypatch: pytest.MonkeyPatch) -> None:
    before = base.asked.fingerprint
    other = dataclasses.replace(base.asked, model_files={"transformer a.safetensors": "1-abc"})
    assert other.fingerprint.differences(before.parts) == ["model files"]
    monkeypatch.setattr("soundreel.render.fingerprint.PIXELS_VERSION", 99)
    assert dataclasses.replace(base.asked).fingerprint.differences(before.parts) == ["pixels version"]


# of a clip


def test_a_clip_s_own_seed_is_its_own(request_: Request, base: PreparedRender) -> None:
    """A draft's clips do not need each other: 13 + 16 + 11 frames."""
    other = prepared(request_.replace(clip_seeds=(0, 9, 2)))
    assert [a == b for a, b in zip(base.clip_fingerprints, other.clip_fingerprints, strict=True)] == [True, False, True]


@pytest.mark.parametrize(
    ("encoding", "same"),
    [
        ({"interpolate": "motion"}, [False, False, True, True]),
        ({"color_match": True}, [False, False, False, False]),
        ({"interpolate": "motion", "cuts": [1.0]}, [False, False, True, True]),
        ({"color_match": True, "cuts": [0.5]}, [False, True, True, True]),
    ],
)
def test_post_processing_makes_clips_of_a_shot_need_each_other(
    request_: Request, encoding: dict[str, Any], same: list[bool]
) -> None:
    one = prepared(request_.replace(frames=60, **encoding))
    other = prepared(request_.replace(frames=60, clip_seeds=(9,), **encoding))
    pairs = zip(one.clip_fingerprints, other.clip_fingerprints, strict=True)
    assert [a == b for a, b in pairs][: len(same)] == same


def test_where_an_engine_chains_clips_all_later_ones_of_the_shot_are_others(
    request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_.replace(frames=60, cuts=[2.5])
    monkeypatch.setattr("soundreel.engines.draft.DraftEngine.chains_clips", True)
    one, other = (prepared(request.replace(clip_seeds=seeds)) for seeds in ((), (0, 9)))
    shots = [clip.shot for clip in one.plan.clips]
    assert shots == [0, 0, 0, 1, 1]
    pairs = zip(one.clip_fingerprints, other.clip_fingerprints, strict=True)
    assert [a == b for a, b in pairs] == [True, False, False, True, True]


def test_a_moved_cut_leaves_the_shots_before_it(request_: Request) -> None:
    one = prepared(request_.replace(cuts=[0.5, 1.5]))
    other = prepared(request_.replace(cuts=[0.5, 1.75]))
    shots = [clip.shot for clip in one.plan.clips]
    same = [a == b for a, b in zip(one.clip_fingerprints, other.clip_fingerprints, strict=False)]
    assert all(is_same for is_same, shot in zip(same, shots, strict=False) if shot == 0)
    assert not all(same)


# shots of a storyboard


def board(request: Request, *shots: dict[str, Any], **fields: Any) -> PreparedRender:
    """Three shots, of which the second continues the first, with what is given of each beside that."""
    places = ({"start": 0, "name": "a"}, {"start": 0.75, "name": "b", "cut": "continue"}, {"start": 1.5, "name": "c"})
    own = [*shots, *[{}] * (3 - len(shots))]
    return prepared(request.replace(shots=[place | more for place, more in zip(places, own, strict=True)], **fields))


def changed_shots(one: PreparedRender, other: PreparedRender) -> set[str]:
    """Names of the shots with a clip whose fingerprint is another one."""
    pairs = zip(one.plan.clips, one.clip_fingerprints, other.clip_fingerprints, strict=True)
    return {one.plan.shot_of(clip).name for clip, mine, theirs in pairs if mine != theirs}


@pytest.mark.parametrize("own", [{"prompt": "red"}, {"negative_prompt": "x"}, {"seed": 9}], ids=str)
@pytest.mark.parametrize("cut", ["hard", "continue"])
def test_another_shot_is_drawn_anew_and_no_other(request_: Request, cut: str, own: dict[str, Any]) -> None:
    base = board(request_, {}, {"cut": cut})
    assert changed_shots(base, board(request_, {}, {"cut": cut} | own)) == {"b"}
    goes_on = {"b"} if cut == "continue" and "seed" in own else set()
    assert changed_shots(base, board(request_, own, {"cut": cut})) == {"a"} | goes_on, "frames do not need each other"


def test_a_shot_with_a_seed_of_its_own_goes_on_with_none(request_: Request) -> None:
    base = board(request_, {"seed": 4}, {"seed": 5})
    assert changed_shots(base, board(request_, {"seed": 9}, {"seed": 5})) == {"a"}


def test_what_continues_a_shot_is_drawn_anew_with_it(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soundreel.engines.draft.engine.DraftEngine.chains_clips", True)
    base = board(request_)
    assert changed_shots(base, board(request_, {"prompt": "red"})) == {"a", "b"}
    assert changed_shots(base, board(request_, {}, {}, {"prompt": "red"})) == {"c"}


def test_files_of_shots_count_by_their_content(request_: Request, cover: Path, tmp_path: Path) -> None:
    copy, other = tmp_path / "copy.png", tmp_path / "other.png"
    copy.write_bytes(cover.read_bytes())
    Image.new("RGB", (64, 64), "red").save(other)
    base = board(request_, {}, {"ref_image": cover})
    assert changed_shots(base, board(request_, {}, {"ref_image": copy})) == set()
    assert changed_shots(base, board(request_, {}, {"ref_image": other})) == {"b"}


def test_what_all_shots_have_of_their_own_changes_none_of_them(request_: Request) -> None:
    own: list[dict[str, Any]] = [{"prompt": "sun", "seed": 1}] * 3
    assert changed_shots(board(request_, *own), board(request_, *own, prompt="rain", seed=7)) == set()
    assert changed_shots(board(request_, own[0]), board(request_, own[0], prompt="rain")) == {"b", "c"}


def test_a_shot_divided_in_two_leaves_the_others(request_: Request) -> None:
    """Their clips have other numbers by then."""
    three = board(request_, {}, {"cut": "hard"})
    shots = [vars(shot) for shot in three.request.shots]
    four = prepared(request_.replace(shots=[shots[0], shots[0] | {"start": 0.4, "name": "a2"}, *shots[1:]]))
    kept = [
        [print_ for clip, print_ in zip(one.plan.clips, one.clip_fingerprints, strict=True)
         if one.plan.shot_of(clip).name in {"b", "c"}]
        for one in (three, four)
    ]  # fmt: skip
    assert kept[0] == kept[1]
    assert len(four.plan.clips) > len(three.plan.clips)


def test_colours_are_matched_to_the_shot_s_own(request_: Request) -> None:
    """A shot that continues another begins with its correction, and ends with none."""
    base = board(request_, color_match=True)
    b_changed = board(request_, {}, {"prompt": "red"}, color_match=True)
    assert changed_shots(base, b_changed) == {"b"}
    a_changed = board(request_, {"prompt": "red"}, color_match=True)
    assert changed_shots(base, a_changed) == {"a", "b"}, "its first clip glides from the correction before"


# there and back


def everything(request: Request, folder: Path) -> Request:
    """A request in which every field has another value than its default, but for `full` and `cuts`: others say that."""
    for role in Role:
        for name, value in OTHER[role].items():
            if name not in {"window.full", "cuts", "audio", "ref_image", "recipe"}:
                request = changed(request, name, value, folder)
    return request.replace(recipe=folder / "a.mp4")


@pytest.mark.parametrize("length", [{}, {"full": True, "frames": None, "audio_duration": None}])
def test_a_request_survives_json(request_: Request, tmp_path: Path, length: dict[str, Any]) -> None:
    rich = everything(request_, tmp_path).replace(server=Server(vae="v", timeout=3), **length)
    back = from_data(json.loads(json.dumps(to_data(rich))))
    assert {field.name: str(field.of(back)) for field in fields_of(Request)} == {
        field.name: str(field.of(rich)) for field in fields_of(Request)
    }
    assert type(back.sampling.solver) is Solver
    assert type(back.sampling.sigmas) is tuple


def test_what_another_version_knows_is_left_out(request_: Request) -> None:
    data = to_data(request_)
    data |= {"invented_later": 1, "sampling": data["sampling"] | {"invented_later": 1}}
    assert from_data(data) == from_data(to_data(request_))


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        None,
        {"audio": "a.wav", "width": "wide"},
        {"audio": "a.wav", "solver": "magic"},
        {"audio": "a.wav", "sampling": {"steps": "few"}},
        {"audio": "a.wav", "sampling": 4},
        {"audio": "a.wav", "output": 4},
    ],
)
def test_what_is_no_request_is_wrong_input(data: Any) -> None:
    with pytest.raises(InputError):
        from_data(data)


def test_a_work_folder_can_be_gone_on_with_from_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("b.safetensors").touch()
    loras = ("b.safetensors:0.5", "on_a_server.safetensors:0.5")
    data = to_data(Request(audio="a.wav", loras=loras, output="c.mp4"), Paths.ABSOLUTE)
    assert (data["audio"], data["output"]["path"]) == (str(tmp_path / "a.wav"), str(tmp_path / "c.mp4"))
    assert data["compute"]["loras"] == [str(tmp_path / "b.safetensors:0.5"), "on_a_server.safetensors:0.5"]
    assert data["ref_image"] is None


def test_names_alone_tell_no_folder_and_no_gpus(tmp_path: Path) -> None:
    loras = (f"{tmp_path / 'here.safetensors'}:0.5", "/home/ann/gone.safetensors:0.5", "on_a_server/one.safetensors")
    (tmp_path / "here.safetensors").touch()
    given = {"audio": "/home/ann/a.wav", "models": "/home/ann", "output": "b/c.mp4", "loras": loras, "gpus": "0,2"}
    data = to_data(Request(**given), Paths.NAMES)
    assert data["audio"] == "a.wav"
    assert data["compute"]["loras"] == ["here.safetensors:0.5", "gone.safetensors:0.5", "on_a_server/one.safetensors"]
    assert {"models", "gpus", "parallel", "urls", "path", "dir", "recipe"}.isdisjoint(
        {*data, *data["compute"], *data["server"], *data["output"]}
    )


# secrets

SECRET = Server(urls=("https://ann:hush@example.org/comfy",), headers=("Authorization: Bearer hush",), timeout=9)


def test_a_server_s_secrets_are_written_nowhere(request_: Request, tmp_path: Path) -> None:
    request = request_.replace(server=SECRET, frames=8, output=tmp_path / "a.mp4")
    generate(request, work=WorkOptions(keep_work=True))
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in written} >= {"a.mp4", "plan.json"}
    assert [path.name for path in written if b"hush" in path.read_bytes()] == []
    (plan,) = (json.loads(path.read_text()) for path in written if path.name == "plan.json")
    assert plan["request"]["server"]["urls"] == ["https://example.org/comfy"]


@pytest.mark.parametrize("headers", [{"Authorization": "hush"}, [("Authorization", "hush")], ["hush"]])
def test_neither_is_it_told(headers: Any) -> None:
    assert "hush" not in repr(Request(audio="a.wav", server=SECRET))
    with pytest.raises(InputError) as error:
        Server(headers=headers)
    assert "hush" not in str(error.value)
    assert error.value.field == "server.headers"


# of any dataclass


@dataclass(frozen=True, kw_only=True)
class Place:
    urls: tuple[str, ...] = option((), "Where", role=Role.NEITHER, is_address=True)
    keys: tuple[str, ...] = option((), "Secret", role=Role.NEITHER, is_secret=True)
    model: str | None = option(None, "Which", role=Role.PIXELS)

    def __post_init__(self) -> None:
        settle(self, "place.")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    seed: int = option(0, "Number", role=Role.PIXELS)
    place: Place = group(Place)  # noqa: RUF009

    def __post_init__(self) -> None:
        settle(self)


def test_fields_of_groups_have_names_of_their_own() -> None:
    assert [field.name for field in fields_of(Wanted)] == ["seed", "place.urls", "place.keys", "place.model"]


def test_secrets_and_passwords_are_no_data() -> None:
    urls = ("https://ann:hush@example.org:8188/comfy?token=hush", "http://localhost:8188")
    wanted = Wanted(place=Place(urls=urls, keys=("hush",), model="a.safetensors"))
    assert to_data(wanted) == {
        "seed": 0,
        "place": {"urls": ["https://example.org:8188/comfy", "http://localhost:8188"], "model": "a.safetensors"},
    }


def test_only_fields_of_a_role_are_its_parts(request_: Request) -> None:
    for role in Role:
        if role not in {Role.PIXELS, Role.NEITHER}:
            assert set(request_parts(request_, role)) == set(OTHER[role])
    files = {"drive", "guide.pose_video", "server.workflow"}
    assert set(request_parts(request_, Role.PIXELS)) == set(OTHER[Role.PIXELS]) - files, "none is given"
