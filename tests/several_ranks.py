"""Runs a function in several processes that reach each other over gloo, as ranks of a mesh."""

import multiprocessing
import os
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from soundreel.models.parallel.ranks import connect

PRELOAD = ["torch", "torch.distributed", "soundreel.models.parallel.tokens"]
"""Imported once: processes are forked from one that has them."""

HANGS_SECONDS = 60


def run_ranks(folder: Path, guidance: int, tokens: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """`work(mesh, *arguments)` on guidance × tokens ranks; what it returned on each, in order."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    size = guidance * tokens
    results: Any = context.SimpleQueue()
    processes = [
        context.Process(
            target=_run, args=(rank, guidance, tokens, str(folder / "store"), results, work, arguments), daemon=True
        )
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    try:
        found = dict(results.get() for _ in range(size))
        for process in processes:
            process.join(HANGS_SECONDS)
    finally:
        for process in processes:
            process.kill()
    failed = [text for text in found.values() if isinstance(text, str)]
    assert not failed, failed[0]
    return [found[rank] for rank in range(size)]


def _run(
    rank: int, guidance: int, tokens: int, store: str, results: Any, work: Callable[..., Any], arguments: Any
) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    size = guidance * tokens
    try:
        distributed.init_process_group(
            "gloo",
            store=distributed.FileStore(store, size),
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=HANGS_SECONDS),
        )
        with torch.inference_mode():
            made = work(connect(rank, guidance, tokens), *arguments)
    except Exception:  # noqa: BLE001 - the test is to show it
        made = traceback.format_exc()
    results.put((rank, made))
    with suppress(RuntimeError, ValueError):  # others may have gone
        distributed.barrier()
