"""Several requests in one work folder: none loses a clip to another, and no clip that counts is drawn twice."""

import json
from pathlib import Path
from typing import Any

import pytest

from command import files_below
from draft_renders import Drawing, Render, Soundreel, clip_files, frames_of
from media_files import quick_sound
from soundreel.errors import Cancelled

pytestmark = pytest.mark.usefixtures("few_partial_videos")

CHANGES = {
    "another crf": ["--crf", "30"],
    "another prompt": ["--prompt", "red"],
    "another cut": ["--cut", "2"],
    "another seed": ["--seed", "9"],
}


@pytest.fixture(scope="module")
def tune(tune: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_sound(tune, tmp_path_factory.mktemp("quick"))


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str], tune: Path) -> Soundreel:
    return Soundreel(capsys, tune)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


def all_files(folder: Path) -> dict[str, Any]:
    """What is in a folder; of plan.json its data."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {
        str(path.relative_to(folder)): json.loads(path.read_text()) if path.suffix == ".json" else path.read_bytes()
        for path in paths
    }


@pytest.mark.parametrize("change", CHANGES)
def test_another_request_leaves_the_folder_as_it_was(
    soundreel: Soundreel, tmp_path: Path, work: Path, change: str
) -> None:
    first = ["-o", tmp_path / "a.mp4", "--work-dir", work]
    made = soundreel.generate(*first, "--keep-work")
    frames, before = made.frames, all_files(work)
    other = soundreel.generate("-o", tmp_path / "b.mp4", "--work-dir", work, "--no-keep-work", *CHANGES[change])
    assert other.drawn
    after = all_files(work)
    told, told_before = after.pop("plan.json"), before.pop("plan.json")
    assert after == before
    assert {**told, "taken": 0} == {**told_before, "taken": 0}
    again = soundreel.generate(*first)
    assert again.drawn == set()
    assert again.frames == frames


@pytest.mark.parametrize("change", CHANGES)
def test_both_are_kept_where_both_are_asked_to_be(
    soundreel: Soundreel, tmp_path: Path, work: Path, change: str
) -> None:
    keep = ["--work-dir", work, "--keep-work"]
    soundreel.generate("-o", tmp_path / "a.mp4", *keep)
    before = clip_files(work)
    soundreel.generate("-o", tmp_path / "b.mp4", *keep, *CHANGES[change])
    assert clip_files(work).items() >= before.items()
    assert soundreel.generate("-o", tmp_path / "a.mp4", *keep).drawn == set()
    assert soundreel.generate("-o", tmp_path / "b.mp4", *keep, *CHANGES[change]).drawn == set()


@pytest.mark.parametrize("where", [None, "work"])
@pytest.mark.parametrize("change", ["another crf", "another prompt"])
def test_an_interrupted_render_goes_on_after_another_one(
    tmp_path: Path, tune: Path, change: str, where: str | None
) -> None:
    place = {} if where is None else {"work_dir": tmp_path / where}
    render = Render(tmp_path, audio=tune)
    render.break_off(clip=4, **place)
    asked = render.request
    render.request = asked.replace(crf=30) if change == "another crf" else asked.replace(prompt="red")
    render(**place)
    render.request = asked
    render(**place)
    assert render.drawn == {4, 5}
    assert files_below(tmp_path) == ["a.mp4"]


def test_three_in_turn(tmp_path: Path, tune: Path, work: Path) -> None:
    """Two are interrupted, a third is finished: both others go on where they were."""
    renders = [Render(tmp_path / name, audio=tune, prompt=name) for name in ("red", "green", "blue")]
    renders[0].break_off(clip=4, work_dir=work)
    renders[1].break_off(clip=3, work_dir=work)
    renders[2](work_dir=work)
    renders[1](work_dir=work)
    assert renders[1].drawn == {3, 4, 5}
    renders[0](work_dir=work)
    assert renders[0].drawn == {4, 5}
    assert not work.exists()


def test_one_that_is_stopped_before_its_first_clip_leaves_the_folder_as_it_was(
    tmp_path: Path, tune: Path, work: Path
) -> None:
    render = Render(tmp_path, audio=tune)
    render.break_off(clip=4, work_dir=work)
    before = all_files(work)
    other = Render(tmp_path / "other", audio=tune, prompt="red")
    with pytest.raises(Cancelled) as stop:
        other(stop_in=1, work_dir=work)
    assert not hasattr(stop.value, "__notes__"), "nothing was saved"
    assert all_files(work) == before


def test_shots_before_a_moved_cut_are_not_drawn_again(soundreel: Soundreel, tmp_path: Path, work: Path) -> None:
    """Shots of 16, 16 and 33 frames; then of 16, 24 and 25: only the first one is the same."""
    keep = ["--work-dir", work, "--keep-work", "--frames", "65", "--infer-frames", "16"]
    soundreel.generate("-o", tmp_path / "a.mp4", *keep, "--cut", "1", "--cut", "2")
    before = clip_files(work)
    moved = soundreel.generate("-o", tmp_path / "b.mp4", *keep, "--cut", "1", "--cut", "2.5")
    assert moved.drawn == set(range(3, 1 + len(shots_of(soundreel, moved))))
    assert clip_files(work).items() >= before.items()
    fresh = soundreel.generate("-o", tmp_path / "fresh" / "b.mp4", *keep[3:], "--cut", "1", "--cut", "2.5")
    assert frames_of(moved.path) == fresh.frames


def shots_of(soundreel: Soundreel, made: Drawing) -> list[int]:
    """The shot of every clip."""
    recipe = json.loads(soundreel("info", made.path, "--json").out)["recipe"]
    return [clip["shot"] for clip in recipe["plan"]["clips"]]


def test_beginning_anew_leaves_other_requests_alone(soundreel: Soundreel, tmp_path: Path, work: Path) -> None:
    keep = ["--work-dir", work, "--keep-work"]
    soundreel.generate("-o", tmp_path / "a.mp4", *keep)
    soundreel.generate("-o", tmp_path / "b.mp4", *keep, "--crf", "30")
    anew = soundreel.generate("-o", tmp_path / "b.mp4", *keep, "--crf", "30", "--no-resume")
    assert anew.drawn == {1, 2, 3, 4, 5}
    assert soundreel.generate("-o", tmp_path / "a.mp4", *keep).drawn == set()


def test_a_request_made_of_texts_resumes_its_own_render(tmp_path: Path, tune: Path) -> None:
    texts = {"clip_split": "full", "solver": "euler", "vae_precision": "bf16", "memory": "auto", "ref_fit": "cover"}
    render = Render(tmp_path, audio=tune, **texts, interpolate="motion")
    render.break_off(clip=4)
    (found,) = [json.loads((folder / "plan.json").read_text()) for folder in (tmp_path / ".soundreel").iterdir()]
    assert [clip["size"] for clip in found["clips"]] == [8, 8, 8, 8, 8]
    render.request = Render(tmp_path, audio=str(tune), **texts, interpolate="motion").request
    render()
    assert render.drawn == {4, 5}


# what a folder remembers


@pytest.fixture
def interrupted(tmp_path: Path, tune: Path, work: Path) -> dict[str, Render]:
    """Two renders in one folder, of 3 and of 2 clips, by their prompts; the folder is at the second one."""
    renders = {name: Render(tmp_path / name, audio=tune, prompt=name) for name in ("red", "green")}
    renders["red"].break_off(clip=4, work_dir=work)
    renders["green"].break_off(clip=3, work_dir=work)
    return renders


def plan_of(work: Path, prompt: str) -> Path:
    (path,) = (path for path in work.glob("plan*.json") if json.loads(path.read_text())["request"]["prompt"] == prompt)
    return path


def listed(soundreel: Soundreel, folder: Path) -> list[tuple[int, str, str]]:
    """Of each render how many clips are done, its state and the file that tells of it."""
    renders = json.loads(soundreel("unfinished", folder, "--json").out)["renders"]
    return sorted((render["done"], render["state"], Path(render["plan"]).name) for render in renders)


def test_every_render_of_a_folder_is_listed_and_goes_on(
    soundreel: Soundreel, tmp_path: Path, work: Path, interrupted: dict[str, Render]
) -> None:
    kept = Render(tmp_path / "blue", audio=soundreel.tune, prompt="blue")
    kept(work_dir=work, keep_work=True)
    red, green = plan_of(work, "red"), plan_of(work, "green")
    assert listed(soundreel, work) == [
        (2, "interrupted", green.name),
        (3, "interrupted", red.name),
        (5, "finished, kept", "plan.json"),
    ]
    told = soundreel("jobs", tmp_path).out
    for command in (f"soundreel resume {red}", f"soundreel resume {green}", f"soundreel reprint {work}"):
        assert any(line.rstrip().endswith(command) for line in told.splitlines())
    for name, plan, drawn in (("red", red, {4, 5}), ("green", green, {3, 4, 5})):
        done = soundreel.draw("resume", plan)
        assert (done.drawn, done.path) == (drawn, tmp_path / name / "a.mp4")
    assert listed(soundreel, work) == [(5, "finished, kept", "plan.json")]


def test_of_two_kept_renders_each_is_drawn_and_printed_again(soundreel: Soundreel, tmp_path: Path, work: Path) -> None:
    keep = ["--work-dir", work, "--keep-work"]
    soundreel.generate("-o", tmp_path / "red.mp4", *keep, "--prompt", "red")
    soundreel.generate("-o", tmp_path / "blue.mp4", *keep, "--prompt", "blue")
    again = soundreel.draw("redo", plan_of(work, "red"), "2")
    assert (again.drawn, again.path) == ({2}, tmp_path / "red_take2.mp4")
    assert soundreel.draw("reprint", plan_of(work, "blue")).path == tmp_path / "blue_print2.mp4"


DAMAGE = ["", "{", "[]", '{"asked": 1}', "cut short"]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("damaged", ["red", "green"])
def test_a_damaged_plan_costs_the_memory_of_one_render(
    soundreel: Soundreel, tmp_path: Path, work: Path, interrupted: dict[str, Render], damaged: str, damage: str
) -> None:
    other = "green" if damaged == "red" else "red"
    plan, whole = plan_of(work, damaged), plan_of(work, other)
    plan.write_text(plan.read_text()[:-100] if damage == "cut short" else damage)
    done = {"red": 3, "green": 2}
    assert listed(soundreel, work) == [(0, "damaged", plan.name), (done[other], "interrupted", whole.name)]
    refused = soundreel("resume", plan if plan.name != "plan.json" else work)
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    assert "is damaged: give the command that began the render again, its clips are kept" in refused.err
    Render(tmp_path / "blue", audio=soundreel.tune, prompt="blue")(work_dir=work)
    assert [state for _, state, _ in listed(soundreel, work)] == ["damaged", "interrupted"]
    for name in (other, damaged):
        interrupted[name](work_dir=work)
        assert interrupted[name].drawn == set(range(done[name] + 1, 6))
    assert not work.exists()


def test_a_folder_of_damaged_plans_alone_stays_until_it_is_thrown_away(
    soundreel: Soundreel, tmp_path: Path, work: Path, interrupted: dict[str, Render]
) -> None:
    for path in work.glob("plan*.json"):
        path.write_text("{")
    before = clip_files(work)
    Render(tmp_path / "blue", audio=soundreel.tune, prompt="blue")(work_dir=work)
    assert clip_files(work) == before
    assert "not finished: --all removes it, too" in soundreel("clean", tmp_path).out
    assert clip_files(work) == before
    assert soundreel("clean", tmp_path, "--all").code == 0
    assert not work.exists()


def test_a_render_that_is_told_of_twice_is_listed_once(
    soundreel: Soundreel, work: Path, interrupted: dict[str, Render]
) -> None:
    """A process was killed between writing the plan of the former render and that of its own."""
    (work / "plan_01234567.json").write_bytes((work / "plan.json").read_bytes())
    assert [done for done, _, _ in listed(soundreel, work)] == [2, 3]
    interrupted["red"](work_dir=work)
    assert [path.name for path in work.glob("plan*.json")] == ["plan.json"]


def test_a_process_that_is_killed_while_it_sets_a_damaged_plan_aside_leaves_a_work_folder(
    soundreel: Soundreel, work: Path, interrupted: dict[str, Render]
) -> None:
    (work / "plan.json").rename(work / "plan_01234567.json")
    assert [done for done, _, _ in listed(soundreel, work)] == [2, 3]
    interrupted["green"](work_dir=work)
    assert interrupted["green"].drawn == {3, 4, 5}
