"""Prompts → rows of the UMT5-XXL encoder.

Legend: n tokens, the end token included, D width of the encoder (4096).
"""

import html
import re
from typing import Any, Self

import ftfy
import torch
from tokenizers import Tokenizer
from torch import Tensor

from soundreel.engines.native.network import LoadedNetwork
from soundreel.engines.native.tokenizer import load_tokenizer
from soundreel.models.text_encoder import UMT5Encoder
from soundreel.weights.catalog import Component
from soundreel.weights.find import ModelFiles
from soundreel.weights.streaming import BlockStream

TEXT_LENGTH = 512
"""Tokens that a prompt may have, the end token included; longer prompts are cut."""


def clean_prompt(prompt: str) -> str:
    """Fix mis-decoded characters, unescape HTML entities (twice, as they nest), collapse white space to single blanks.

    As in the reference, full-width characters become half-width, curly quotes straight, ligatures letters.
    """
    mended = html.unescape(html.unescape(ftfy.fix_text(prompt)))
    return re.sub(r"\s+", " ", mended.strip()).strip()


class TextEncoder(LoadedNetwork[UMT5Encoder]):
    """UMT5: prompt → one row per token."""

    component = Component.TEXT_ENCODER
    kind = UMT5Encoder

    def __init__(self, network: UMT5Encoder, tokenizer: Tokenizer) -> None:
        super().__init__(network)
        self._tokenizer = tokenizer

    @classmethod
    def other_arguments(cls, model: ModelFiles) -> tuple[Any, ...]:
        """The tokenizer; raises `WeightsError`."""
        assert model.tokenizer is not None, "the text encoder is among the parts"
        return (load_tokenizer(model.tokenizer),)

    def stream_to(self, device: torch.device) -> Self:
        """Compute on `device` while the blocks stay in host memory, each copied when its turn comes; returns itself."""
        BlockStream(self.network.encoder.block, device, pinned=False)  # used a few times: locking memory takes longer
        return self.to(device)

    def tokenize(self, prompt: str) -> list[int]:
        """Token ids [n] of the cleaned prompt; the last one is the end token, also of a prompt that was cut."""
        ids: list[int] = self._tokenizer.encode(clean_prompt(prompt)).ids
        return ids if len(ids) <= TEXT_LENGTH else [*ids[: TEXT_LENGTH - 1], ids[-1]]

    @torch.no_grad()
    def encode(self, prompt: str) -> Tensor:
        """Rows [n, D] in the network's float type, on its device.

        Padding is not computed: the reference masks it, so that it changes no row.
        """
        ids = torch.tensor([self.tokenize(prompt)], device=self.device)
        rows: Tensor = self.network(ids)[0]
        return rows
