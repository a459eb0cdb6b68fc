"""A tiny tokenizer of UMT5's kind, as tokenizer.json and as spiece.model."""

import json
import math
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

PIECES = 1200
"""At most, the special ones included; the extra ids come after them."""

EXTRA_IDS = 20
SPECIAL = ("<pad>", "</s>", "<s>", "<unk>")
BLANK = "▁"

_LONGEST_PIECE = 6
_KIND = {"<pad>": 3, "</s>": 3, "<s>": 3, "<unk>": 2}
"""SentencePiece's kinds of pieces: 1 normal, 2 unknown, 3 control."""


def write_tokenizer(folder: Path, texts: list[str]) -> bytes:
    """Write both forms, learned from `texts`, and the settings of transformers; the SentencePiece model as bytes."""
    folder.mkdir(parents=True)
    pieces = learn_pieces(texts)
    tokenizer(pieces).save(str(folder / "tokenizer.json"))
    model = sentencepiece_model(pieces)
    (folder / "spiece.model").write_bytes(model)
    # transformers 5 makes a T5Tokenizer by rules of its own (unknown is 2, in UMT5 it is 3); this class takes the file
    named = {"pad_token": SPECIAL[0], "eos_token": SPECIAL[1], "unk_token": SPECIAL[3]}
    settings = named | {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(json.dumps(named))
    return model


def learn_pieces(texts: list[str]) -> list[tuple[str, float]]:
    """The special pieces, every character, and the commonest parts of words, each with a score that grows with use."""
    words = [BLANK + word for text in texts for word in text.split()]
    characters = Counter(character for word in words for character in word)
    parts = Counter(part for word in words for part in _parts(word))
    room = PIECES - len(SPECIAL) - len(characters)
    common = sorted(parts.items(), key=lambda item: (-item[1] * len(item[0]), item[0]))[:room]
    total = sum(characters.values())
    scored = [(piece, _log(count / total / 8)) for piece, count in sorted(characters.items())]
    scored += [(piece, _log(count / total)) for piece, count in common]
    return [*((piece, 0.0) for piece in SPECIAL), *scored]


def tokenizer(pieces: list[tuple[str, float]]) -> Tokenizer:
    """As transformers makes one of a SentencePiece model without a map of characters."""
    extra = [f"<extra_id_{number}>" for number in reversed(range(EXTRA_IDS))]
    made = Tokenizer(models.Unigram([*pieces, *((token, 0.0) for token in extra)], unk_id=3, byte_fallback=False))
    blanks = normalizers.Replace(Regex(" {2,}"), BLANK)
    made.normalizer = normalizers.Sequence([normalizers.Strip(left=False, right=True), blanks])
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme="always")
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (*SPECIAL, *extra)])
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return made


def sentencepiece_model(pieces: list[tuple[str, float]]) -> bytes:
    """`ModelProto`: 1 the pieces (1 text, 2 score, 3 kind), 3 the normalizer (1 name, 3…5 what it does with blanks)."""
    normalizer = _field(1, b"identity") + b"".join(_number(key, 1) for key in (3, 4, 5))
    encoded = (
        _field(1, piece.encode()) + b"\x15" + struct.pack("<f", score) + _number(3, _KIND.get(piece, 1))
        for piece, score in pieces
    )
    return b"".join(_field(1, piece) for piece in encoded) + _field(3, normalizer)


def _parts(word: str) -> Iterator[str]:
    for begin in range(len(word)):
        for end in range(begin + 2, min(begin + _LONGEST_PIECE, len(word)) + 1):
            yield word[begin:end]


def _log(share: float) -> float:
    """A float32, as SentencePiece stores it: both forms must hold the same number."""
    rounded: float = struct.unpack("<f", struct.pack("<f", math.log(share)))[0]
    return rounded


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
