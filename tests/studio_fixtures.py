"""Fixtures of tests with the page of the studio: `pytest_plugins = ("studio_fixtures",)`."""

from collections.abc import Iterator
from typing import Any

import pytest

from browsing import Person, chromium
from serving import Server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of drafts, the same for all tests of a module."""
    with Server(tmp_path_factory.mktemp("studio") / "data") as running:
        yield running


@pytest.fixture
def person(browser: Any, server: Server) -> Iterator[Person]:
    """Somebody with the page before them; at the end nothing may have been complained about."""
    someone = Person(browser, server.address)
    someone.goes_to()
    yield someone
    someone.context.close()
    assert someone.complaints == []
