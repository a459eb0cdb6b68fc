"""What a network was built with stays known."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any


def keeps_config(init: Callable[..., None]) -> Callable[..., None]:
    """For a constructor that takes keywords alone: keep them, and the defaults of the others, as `config`."""
    parameters = inspect.signature(init).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.default is not one.empty}

    @wraps(init)
    def keeping(self: Any, **given: Any) -> None:
        init(self, **given)
        self.config = {**defaults, **given}

    return keeping
