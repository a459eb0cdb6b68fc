"""Which GPUs are asked for, what they divide and over what they speak, and what does not go together."""

import json
import re
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")

import torch

from command import run_here
from native_renders import CHAIN, SPEECH, native_plan, native_request, prepared
from native_videos import AS_OPTIONS
from soundreel.cli import reports
from soundreel.cli.reports import describe_machine
from soundreel.engines.native import links as links_module
from soundreel.engines.native import prepared as decisions
from soundreel.engines.native.links import HOST, NO_PEERS, NVLINK, PEERS, Links, links_between
from soundreel.engines.native.team import Team, choose_team
from soundreel.errors import EngineError, InputError
from soundreel.models.devices import pick_device

CPU = torch.device("cpu")


class TestGpus:
    """Of a machine that has some; nothing is computed."""

    @pytest.fixture(autouse=True)
    def two_gpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H100")
        monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    @pytest.mark.parametrize(
        ("device", "gpus", "numbers"),
        [
            ("cuda", "2", [0, 1]),
            ("cuda:1", "2", [1, 0]),
            ("cuda:1", "1", [1]),
            ("cuda", "all", [0, 1]),
            ("cuda", "1,0", [1, 0]),
        ],
    )
    def test_which_ones(self, device: str, gpus: str, numbers: list[int]) -> None:
        team = choose_team(native_request(gpus=gpus, device="cuda"), torch.device(device), heads=40)
        assert [one.index for one in team.devices] == numbers

    @pytest.mark.parametrize("gpus", ["3", "0,2"])
    def test_more_than_there_are(self, gpus: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(InputError, match="GPUs that are here: there are 2, numbers 0 to 1$"):
            choose_team(native_request(gpus=gpus, device="cuda"), torch.device("cuda"), heads=40)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        with pytest.raises(InputError, match=r"numbers 0 to 1 \(CUDA_VISIBLE_DEVICES is '0,1'\)$"):
            choose_team(native_request(gpus=gpus, device="cuda"), torch.device("cuda"), heads=40)

    def test_none_where_they_are_hidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-none")
        with pytest.raises(InputError, match=r"PyTorch finds none \(CUDA_VISIBLE_DEVICES is 'GPU-none'\)"):
            choose_team(native_request(gpus="2", device="auto"), CPU, heads=40)

    @pytest.mark.parametrize(
        ("name", "count", "visible", "says"),
        [
            ("cuda", 0, None, r"\(PyTorch finds no NVIDIA GPU\)$"),
            ("cuda:1", 0, "7,x", r"\(PyTorch finds no NVIDIA GPU \(CUDA_VISIBLE_DEVICES is '7,x'\)\)$"),
            ("cuda:2", 2, None, r"\(there are 2, numbers 0 to 1\)$"),
            ("cuda:1", 1, "3", r"\(there is 1, number 0 \(CUDA_VISIBLE_DEVICES is '3'\)\)$"),
            ("mps", 0, None, r"\(PyTorch finds no Apple GPU\)$"),
            ("cuda:x", 2, None, r"\(.*cuda:x.*\)$"),
            ("cuda:x", 0, None, r"\(.*cuda:x.*\)$"),
        ],
    )
    def test_a_device_that_is_not_here_is_one_short_line(
        self, name: str, count: int, visible: str | None, says: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

        def refuse(*_: object, **__: object) -> None:
            raise RuntimeError(f"{name} is nothing that PyTorch knows, as it says at length")

        monkeypatch.setattr(torch, "empty", refuse)
        with pytest.raises(InputError, match=rf"^--device is '{name}': expected auto, cpu, cuda, cuda:N or mps {says}"):
            pick_device(name)

    def test_different_ones(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: ["H100", "A40"][device.index])
        says = "of different kinds .A40, H100.: guidance and tokens would go by the slower.* take those of one kind"
        for parallel in ("auto", "guidance", "tokens"):
            with pytest.raises(EngineError, match=says):
                choose_team(
                    native_request(gpus="all", parallel=parallel, device="cuda"), torch.device("cuda"), heads=40
                )

    def test_no_nccl(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
        with pytest.raises(EngineError, match="GPUs speak over NCCL, which this PyTorch does not have.*parallel shots"):
            choose_team(native_request(gpus="2", device="cuda"), torch.device("cuda"), heads=40)

    @pytest.mark.parametrize(
        ("names", "has_nccl", "links", "says"),
        [
            (["H100"] * 2, True, NVLINK, "2 × H100 over NVLink; --gpus all divides shots where .*, else guidance$"),
            (["H100"] * 4, True, NVLINK, "4 × H100 over NVLink; .*, else guidance, then tokens$"),
            (["H100"] * 3, True, PEERS, "3 × H100 over PCIe; .*, else tokens$"),
            (
                ["A40", "H100"],
                True,
                HOST,
                "1 × A40, 1 × H100 over host memory, without peer .* shots alone, for they",
            ),
            (["H100"] * 2, False, PEERS, "2 × H100 over PCIe; .* shots alone, for this PyTorch has no NCCL$"),
        ],
    )
    def test_the_doctor_tells_links_and_what_is_divided(
        self,
        names: list[str],
        has_nccl: bool,
        links: Links,
        says: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: names[device.index])
        monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: has_nccl)
        monkeypatch.setattr(links_module, "links_between", lambda _: links)
        monkeypatch.setattr(reports, "find_gpu", lambda: "a GPU")
        (found,) = (check["found"] for check in describe_machine().data["checks"] if check["name"] == "GPUs")
        assert re.search(says, found)

    @pytest.mark.parametrize(
        ("tokens", "links", "is_noted"), [(2, HOST, True), (2, PEERS, False), (1, HOST, False), (2, NVLINK, False)]
    )
    def test_who_shares_tokens_without_peer_access_is_told(
        self, tokens: int, links: Links, is_noted: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(decisions, "links_between", lambda _: links)
        team = Team(devices=(torch.device("cuda", 0), torch.device("cuda", 1)), guidance=2 // tokens, tokens=tokens)
        assert decisions._link_notes(team) == ((NO_PEERS,) if is_noted else ())

    def test_links_are_the_slowest_that_lie_between(self, monkeypatch: pytest.MonkeyPatch) -> None:
        devices = tuple(torch.device("cuda", number) for number in range(3))
        reach = set(permutations(range(3), 2))
        monkeypatch.setattr(torch.cuda, "can_device_access_peer", lambda one, other: (one.index, other.index) in reach)
        for linked, expected in (({0, 1, 2}, NVLINK), ({0, 1}, PEERS)):
            monkeypatch.setattr(links_module, "_has_nvlink", lambda device, linked=linked: device.index in linked)
            links_between.cache_clear()
            assert links_between(devices) is expected
        reach.remove((2, 0))
        links_between.cache_clear()
        assert links_between(devices) is HOST
        links_between.cache_clear()

    @pytest.mark.parametrize(
        ("count", "scale", "mesh"),
        [(2, 4.5, (2, 1)), (2, 1.0, (1, 2)), (3, 4.5, (1, 3)), (8, 4.5, (2, 4)), (7, 1, (1, 7))],
    )
    def test_how_they_divide_the_work(
        self, count: int, scale: float, mesh: tuple[int, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
        request = native_request(gpus=str(count), device="cuda", guide_scale=scale)
        team = choose_team(request, torch.device("cuda"), heads=40)
        assert (team.guidance, team.tokens) == mesh


class TestOptions:
    @pytest.mark.parametrize("gpus", ["0", "-1", "two", "0,0", "1,", "", "1000", "0;2"])
    def test_wrong_numbers(self, gpus: str) -> None:
        with pytest.raises(InputError, match="gpus") as caught:
            native_request(gpus=gpus)
        assert caught.value.field == "compute.gpus"

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"gpus": "0,1"}, "a number of processes, where --device is cpu"),
            ({"gpus": "all"}, "a number of processes, where --device is cpu"),
            ({"parallel": "tokens"}, "several GPUs with it: --gpus 2, all, or which ones"),
            ({"gpus": "3"}, "which has 2 attention heads, can be divided among 2 at most"),
            ({"gpus": "4", "guide_scale": 1.0}, "can be divided among 2 at most"),
            ({"gpus": "2", "guide_scale": 1.0, "parallel": "guidance"}, "tokens or auto where guidance is off"),
            ({"gpus": "4", "parallel": "guidance"}, "auto for 4 GPUs: guidance has two branches"),
        ],
    )
    def test_what_does_not_go_together(self, golden: Path, fields: dict[str, Any], says: str) -> None:
        with pytest.raises(InputError, match=says):
            prepared(native_plan(**CHAIN, **fields))

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({}, ""),
            ({"gpus": "1"}, ""),
            ({"gpus": "2"}, "2 processes on the CPU: they divide the two branches of guidance"),
            ({"gpus": "2", "guide_scale": 1.0}, "2 processes on the CPU: they divide the tokens of each pass"),
            ({"gpus": "2", "parallel": "tokens"}, "2 processes on the CPU: they divide the tokens of each pass"),
            (
                {"gpus": "4"},
                "4 processes on the CPU: they divide the two branches of guidance, then the tokens of each pass",
            ),
        ],
    )
    def test_what_is_divided_is_told(self, golden: Path, fields: dict[str, Any], says: str) -> None:
        assert prepared(native_plan(**CHAIN, **fields)).devices == says

    def test_the_plan_tells_it_and_what_workers_take(self, golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
        words = ("plan", SPEECH, *AS_OPTIONS)
        one, two = (json.loads(run_here(capsys, *words, "--json", *more).out) for more in ((), ("--gpus", "2")))
        assert one["devices"] == ""
        assert two["devices"] == "2 processes on the CPU: they divide the two branches of guidance"
        assert two["host_memory_bytes"] > one["host_memory_bytes"]
        assert two["speedup_of_each"] is None, "processes on one processor share its cores"
