"""Modules of the official package (`wan22`, dev-only); without it the tests that ask for one are skipped."""

from types import ModuleType

import pytest

from references import NotInstalledError
from references.official import official


def official_module(name: str) -> ModuleType:
    """`wan.{name}`, such as `modules.t5`."""
    try:
        return official(name)
    except NotInstalledError as error:
        pytest.skip(str(error))
