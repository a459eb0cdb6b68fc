"""A limit of a process's address space (`ulimit -v`): said before libraries are loaded that crash for want of it."""

import os
import sys
from typing import Final

from soundreel.errors import EngineError

LOADING_BYTES: Final = 600_000_000
"""What the libraries take when they are loaded, 450 MB were measured, and some more."""

TIGHT_BYTES: Final = 4_000_000_000
"""Where less than this may be taken, what fails may well fail for that."""

BLAS_THREADS: Final = "OPENBLAS_NUM_THREADS"
"""Environment variable: with more than one, OpenBLAS takes memory for each and crashes where it gets none."""


def tight_limit() -> int | None:
    """Bytes of address space that this process may take; None where they are many, or nobody limits them."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY or limit >= TIGHT_BYTES else limit


def prepare_for_limit() -> None:
    """Make libraries do with little address space; `EngineError` where there is too little to load them."""
    limit = tight_limit()
    if limit is None:
        return
    os.environ.setdefault(BLAS_THREADS, "1")
    if limit < LOADING_BYTES:
        raise EngineError(f"{in_words(limit)}, and a draft takes about 1 GB: raise it, as with `ulimit -v unlimited`")


def in_words(limit: int) -> str:
    """What is said of a limit."""
    return f"this process may take {limit / 1e9:.1f} GB of address space (ulimit -v)"
