"""Compiles what a network will launch, several kernels at once: by itself Triton compiles each when it is launched."""

from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

import triton

COMPILED_AT_ONCE: Final = 8

_only_compiles: Final = ContextVar("only_compiles", default=False)

_at_once: Any = getattr(triton, "AsyncCompileMode", None)
"""None: this Triton compiles one kernel at a time, and ahead none."""


@contextmanager
def compiled_ahead() -> Iterator[None]:
    """Within, nothing is computed: what would be launched is compiled for the next time.

    What fails to compile fails again when it is launched.
    """
    pool = futures.ThreadPoolExecutor(COMPILED_AT_ONCE, thread_name_prefix="compile")
    before = _only_compiles.set(True)
    try:
        if _at_once is None:
            yield
        else:
            with _at_once(pool, ignore_errors=True):
                yield
    finally:
        _only_compiles.reset(before)
        pool.shutdown(cancel_futures=True)


def starting(kernel: Any, programs: int) -> Callable[..., Any]:
    """What is called with a kernel's arguments to launch so many programs of it, or only to compile it."""
    if not _only_compiles.get():
        launched: Callable[..., Any] = kernel[(programs,)]
        return launched
    return _nothing if _at_once is None else partial(kernel.warmup, grid=(programs,))


def _nothing(*_: Any, **__: Any) -> None:
    """Compile nothing."""
