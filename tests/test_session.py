"""A session renders one request after the other, and loads a network once."""

import dataclasses
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")

import torch
from torch import nn

from native_videos import NATIVE
from soundreel import Compute, EngineError, Progress, Request, Session, SessionError, Stage, WeightsError, generate
from soundreel.engines.native import networks
from soundreel.engines.native.clips import ClipSampler
from soundreel.engines.native.memory_plan import Encoders, MemoryPlan
from soundreel.media.video import read_frames
from weight_files import COMFY, OFFICIAL, needs_golden, writable_copy

pytestmark = needs_golden

TRANSFORMER, TEXT, SOUND, VAE = "S2V transformer", "UMT5 text encoder", "wav2vec2 audio encoder", "Wan VAE"
ALL = {TRANSFORMER, TEXT, SOUND, VAE}


class Studio:
    """A session that renders into a folder, and what was loaded and seen."""

    def __init__(self, session: Session, folder: Path) -> None:
        self.session, self._folder, self._count = session, folder, 0

    def render(self, **fields: Any) -> set[str]:
        """Render a request; returns the networks that were loaded for it."""
        loaded, sampled = set(), []

        def hear(progress: Progress) -> None:
            if progress.stage is Stage.LOAD:
                loaded.add(progress.what)
            if progress.stage is Stage.RENDER:
                sampled.append(progress.clip)

        self._count += 1
        self.video = self._folder / str(self._count) / "a.mp4"  # in its own folder: nothing is found there
        self.session.generate(request(self.video, **fields), hear)
        assert sampled
        return loaded

    @property
    def frames(self) -> list[bytes]:
        return frames_of(self.video)


def request(video: Path, **fields: Any) -> Request:
    return Request(**NATIVE | {"frames": 4, "output": video} | fields)


def frames_of(video: Path) -> list[bytes]:
    return [frame.tobytes() for frame in read_frames(video)]


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    with Session() as session:
        yield Studio(session, tmp_path)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sound is encoded once more in each test, and in each session only where a test asks for it."""
    monkeypatch.setattr("soundreel.engines.native.sound_store.cache_folder", lambda: tmp_path / "cache")


def test_a_second_render_loads_nothing_and_is_the_one_that_a_command_makes(studio: Studio, tmp_path: Path) -> None:
    assert studio.render() == ALL
    first = studio.frames
    assert studio.render(seed=5, prompt="a woman sings on a roof") == set()
    generate(request(tmp_path / "alone.mp4", seed=5, prompt="a woman sings on a roof"))
    assert studio.frames == frames_of(tmp_path / "alone.mp4") != first
    assert studio.render() == set()
    assert studio.frames == first


def write_lora(path: Path) -> str:
    weight = torch.full((256, 256), 0.02)
    torch.save({"diffusion_model.blocks.0.self_attn.q.diff": weight}, path)
    return str(path)


def test_what_changes_is_loaded_again_and_nothing_else(studio: Studio, tmp_path: Path) -> None:
    studio.render()
    plain = studio.frames
    lora = write_lora(tmp_path / "style.pth")
    assert studio.render(loras=(lora,)) == {TRANSFORMER}
    assert studio.frames != plain
    assert studio.render(loras=(f"{lora}:0.5",)) == {TRANSFORMER}
    assert studio.render(attention="sdpa", steps=2, width=80, loras=(f"{lora}:0.5",)) == set()
    assert studio.render(memory="4gb") == {TRANSFORMER}
    assert studio.render(models=COMFY) >= ALL - {SOUND}
    assert studio.render() == {TRANSFORMER, VAE}  # its words and its sound are known
    assert studio.frames == plain


@pytest.mark.parametrize("encoders", [Encoders.COME, Encoders.STREAMED, Encoders.ALONE])
def test_encoders_that_have_no_room_come_and_go(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, encoders: Encoders
) -> None:
    def decided(*given: Any) -> MemoryPlan:
        return dataclasses.replace(given[2], encoders=encoders)

    monkeypatch.setattr("soundreel.engines.native.memory.with_encoders", decided)
    studio.render()
    first = studio.frames
    sampled = {TRANSFORMER} if encoders is Encoders.ALONE else set()
    assert studio.render(prompt="another") == {TEXT} | sampled
    assert studio.render(audio_start=0.5) == {SOUND} | sampled
    studio.render()
    assert studio.frames == first


def test_the_session_says_how_it_computes_where_a_request_does_not(tmp_path: Path) -> None:
    others = {name: value for name, value in NATIVE.items() if name not in {"device", "models"}}
    asked = Request(**others | {"frames": 4, "output": tmp_path / "a.mp4"})
    with Session(Compute(device="cpu", models=OFFICIAL)) as session:
        assert session.generate(asked).frames == 4


def test_all_is_given_back_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[weakref.ref[nn.Module]] = []
    get = networks.Networks._get

    def noted(*given: Any) -> Any:
        found = get(*given)
        there.append(weakref.ref(found.network))
        return found

    monkeypatch.setattr(networks.Networks, "_get", noted)
    with Session() as session:
        Studio(session, tmp_path).render()
        assert len({id(network()) for network in there} - {id(None)}) == len(ALL)
    assert [network() for network in there if network() is not None] == []


def test_it_can_be_opened_again(tmp_path: Path) -> None:
    session = Session()
    with pytest.raises(SessionError, match="not open"):
        session.generate(request(tmp_path / "a.mp4"))
    for number in range(2):
        with session, pytest.raises(SessionError, match="open already"), session:
            pass
        with session:
            assert Studio(session, tmp_path / str(number)).render() >= ALL - {SOUND}


def test_one_render_at_a_time_in_any_thread(studio: Studio, tmp_path: Path) -> None:
    refused: list[str] = []

    def ask_for_another(progress: Progress) -> None:
        if progress.stage is Stage.RENDER and not refused:
            for call in (lambda: studio.session.generate(request(tmp_path / "b.mp4")), studio.session.close):
                with pytest.raises(SessionError) as caught:
                    call()
                refused.append(str(caught.value))

    done: list[int] = []

    def work() -> None:
        done.append(studio.session.generate(request(tmp_path / "a.mp4"), ask_for_another).frames)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [4]
    assert len(refused) == 2
    assert "one render at a time" in refused[0]
    assert studio.render() == set()


class TestFaults:
    def test_a_stop_keeps_what_is_loaded(self, studio: Studio, tmp_path: Path) -> None:
        def stop(progress: Progress) -> None:
            if progress.stage is Stage.RENDER:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            studio.session.generate(request(tmp_path / "a.mp4"), stop)
        assert studio.render(seed=4) == set()

    def test_after_any_other_error_it_loads_anew(self, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
        studio.render()
        with monkeypatch.context() as patch:
            patch.setattr(ClipSampler, "sample", broken(ZeroDivisionError("a fault")))
            with pytest.raises(ZeroDivisionError):
                studio.render(seed=4)
        assert studio.render() == ALL - {SOUND}

    def test_a_lost_gpu_is_said_and_the_session_can_be_opened_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lost = torch.AcceleratorError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA")
        session = Session()
        with session:
            studio = Studio(session, tmp_path)
            studio.render()
            with monkeypatch.context() as patch:
                patch.setattr(ClipSampler, "sample", broken(lost))
                for _ in range(2):
                    with pytest.raises(EngineError, match=r"GPU was lost \(CUDA error: unspecified launch failure\)"):
                        studio.render(seed=4)
        with session:
            assert Studio(session, tmp_path / "again").render(seed=4) == ALL - {SOUND}

    def test_a_file_that_changes_is_read_again(self, studio: Studio, tmp_path: Path) -> None:
        models = writable_copy(COMFY, tmp_path / "models")
        assert studio.render(models=models) == ALL
        for path in models.rglob("*vae*"):
            path.touch()
        assert studio.render(models=models) == {VAE}

    def test_a_file_that_changes_while_it_is_read_is_refused(
        self, studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        models = writable_copy(COMFY, tmp_path / "models")
        load = networks.load_transformer

        def changed(*given: Any) -> Any:
            for path in models.rglob("*s2v*"):
                path.touch()
            return load(*given)

        monkeypatch.setattr(networks, "load_transformer", changed)
        with pytest.raises(WeightsError, match="changed while they were read"):
            studio.render(models=models)


def broken(error: Exception) -> Any:
    def work(*_given: Any) -> None:
        raise error

    return work
