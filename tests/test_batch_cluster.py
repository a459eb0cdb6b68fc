"""A batch on a cluster of several nodes, as `benchmarks.batch` has it, smaller; and the cluster that is an example."""

import shlex
from typing import Any

import pytest

pytest.importorskip("ray", reason="the packages of soundreel[batch] are not here")

import yaml
from benchmarks import batch
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli

from conftest import EXAMPLES


@pytest.mark.long
def test_killed_workers_and_nodes_that_come_and_go_leave_every_video_once_and_whole() -> None:
    figures = batch.run(drafts=12)
    assert figures.kills >= 1


class TestExample:
    @pytest.fixture
    def asked(self) -> dict[str, Any]:
        config: dict[str, Any] = yaml.safe_load((EXAMPLES / "fleet.yaml").read_text(encoding="utf-8"))
        return config

    def test_it_is_what_ray_up_takes(self, asked: dict[str, Any]) -> None:
        validate_config(prepare_config(asked))

    def test_as_many_machines_are_started_as_it_may_have(self, asked: dict[str, Any]) -> None:
        """A batch asks for no more than there are."""
        kinds = [kind for name, kind in asked["available_node_types"].items() if name != asked["head_node_type"]]
        assert [kind["min_workers"] for kind in kinds] == [kind["max_workers"] for kind in kinds]
        assert sum(kind["min_workers"] for kind in kinds) == asked["max_workers"]

    def test_its_commands_have_options_that_ray_knows(self, asked: dict[str, Any]) -> None:
        lines = [*asked["head_start_ray_commands"], *asked["worker_start_ray_commands"]]
        commands = [shlex.split(line.rpartition("; ")[2])[1:] for line in lines]
        assert [command[0] for command in commands] == ["stop", "start"] * 2
        for name, *options in commands:
            cli.commands[name].make_context(name, options, resilient_parsing=False)
