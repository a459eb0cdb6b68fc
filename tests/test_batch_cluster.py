"""A batch on a cluster of several nodes, as `benchmarks.batch` has it, smaller."""

import pytest

pytest.importorskip("ray", reason="the packages of soundreel[batch] are not here")

from benchmarks import batch


@pytest.mark.long
def test_killed_workers_and_nodes_that_come_and_go_leave_every_video_once_and_whole() -> None:
    figures = batch.run(drafts=12)
    assert figures.kills >= 1
