"""Write a whole folder of references."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers.utils import logging

from references.encoder_cases import PROMPTS, UNLEARNED, negative_prompt, write_encoder_cases
from references.folder import Folder
from references.full_size import write_manifest
from references.layouts import write_checkpoints
from references.media import write_inputs
from references.networks import build_networks
from references.plumbing_cases import write_plumbing_cases
from references.render_cases import write_render_cases
from references.transformer_cases import write_transformer_cases


def make_references(path: Path, seed: int) -> None:
    """Draw weights and inputs from the seed and let the official package compute what ours must; about 30 s.

    Raises:
        NotInstalledError: the package `wan22` is missing.
    """
    folder = Folder(path=path, seed=seed)
    with torch.inference_mode(), _without_progress_bars():
        networks = build_networks(seed)
        write_inputs(folder)
        learned = [prompt for prompt in (*PROMPTS, negative_prompt()) if prompt != UNLEARNED]
        write_checkpoints(folder, networks, learned)
        write_manifest(path)
        write_plumbing_cases(folder)
        write_encoder_cases(folder, networks)
        write_transformer_cases(folder, networks)
        write_render_cases(folder, networks)
    folder.finish()


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Those of transformers."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
