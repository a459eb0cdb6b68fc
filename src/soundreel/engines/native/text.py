"""Prompts to rows of the UMT5-XXL encoder, through transformers' `UMT5EncoderModel`.

Legend: n tokens, the end token included, D width of the encoder (4096).
"""

import html
import re

import ftfy
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import UMT5EncoderModel

from soundreel.engines.native.network import Placed
from soundreel.engines.native.tokenizer import load_tokenizer
from soundreel.weights.catalog import Component
from soundreel.weights.components import load_part
from soundreel.weights.find import ModelFiles
from soundreel.weights.load import OnLoad
from soundreel.weights.streaming import BlockStream

TEXT_LENGTH = 512
"""Most tokens of a prompt, the end token included; a longer one is cut."""


def clean_prompt(prompt: str) -> str:
    """Mend encoding accidents, resolve HTML entities (twice: they nest), and make one blank of white space.

    As the reference does: full-width punctuation becomes half-width, curly quotes straight, ligatures letters.
    """
    mended = html.unescape(html.unescape(ftfy.fix_text(prompt)))
    return re.sub(r"\s+", " ", mended.strip()).strip()


class TextEncoder(Placed[UMT5EncoderModel]):
    """Encodes prompts."""

    def __init__(self, network: UMT5EncoderModel, tokenizer: Tokenizer, *, length: int = TEXT_LENGTH) -> None:
        super().__init__(network)
        self._tokenizer = tokenizer
        self._length = length

    @classmethod
    def load(
        cls,
        model: ModelFiles,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        on_load: OnLoad | None = None,
        streamed: bool = False,
    ) -> "TextEncoder":
        """Load the model's text encoder and tokenizer; raises `WeightsError`.

        `streamed`, its blocks wait in host memory and come to the device one after the other.
        """
        tokenizer = load_tokenizer(model.tokenizer)
        part, home = model[Component.TEXT_ENCODER], "cpu" if streamed else device
        network = load_part(part, UMT5EncoderModel, device=home, dtype=dtype, on_load=on_load)
        if streamed:
            BlockStream(network.encoder.block, torch.device(device), pinned=False)  # a few uses: locking takes longer
            cls(network, tokenizer).to(device)
        return cls(network, tokenizer)

    def tokenize(self, prompt: str) -> list[int]:
        """Token ids [n] of the cleaned prompt; the last is the end token, whatever was cut."""
        ids: list[int] = self._tokenizer.encode(clean_prompt(prompt)).ids
        return ids if len(ids) <= self._length else [*ids[: self._length - 1], ids[-1]]

    @torch.no_grad()
    def encode(self, prompt: str) -> Tensor:
        """[n, D] in the network's float type, on its device.

        Only real tokens are computed: padding is masked in the reference and adds exactly nothing.
        """
        ids = torch.tensor([self.tokenize(prompt)], device=self.device)
        rows: Tensor = self.network(input_ids=ids).last_hidden_state[0]
        return rows
