"""UMT5's tokenizer, from tokenizer.json or from the SentencePiece model that ComfyUI's text encoders carry.

tokenizer.json is authoritative: the network was trained on its ids. A SentencePiece model gives the same ids here:
a character that it does not know becomes <unk>, as there, and not bytes as in the SentencePiece program.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from soundreel.disk.plain_json import parse_json
from soundreel.errors import WeightsError
from soundreel.weights.headers import SAFETENSORS
from soundreel.weights.read import open_tensors
from soundreel.weights.text_keys import SENTENCEPIECE_TENSOR

END, UNKNOWN = "</s>", "<unk>"
SPECIAL_TOKENS = ("<pad>", END, "<s>", UNKNOWN)
WORD_START = "▁"

# wire types of protocol buffers
_VARINT, _LENGTH_GIVEN = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}


def load_tokenizer(path: Path) -> Tokenizer:
    """Open tokenizer.json, spiece.model, or a safetensors file with a `spiece_model` tensor.

    Raises:
        WeightsError: the file is damaged, or is another model's tokenizer.
    """
    try:
        tokenizer = _open(path)
    except OSError as error:
        raise WeightsError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except (ValueError, IndexError, KeyError, struct.error) as error:
        raise WeightsError(f"the tokenizer in {str(path)!r} is damaged ({error}): download it again") from error
    if tokenizer.token_to_id(END) is None:
        raise WeightsError(f"the tokenizer in {str(path)!r} has no {END} token: expected UMT5's")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _open(path: Path) -> Tokenizer:
    if path.suffix == ".json":
        return _from_json(path.read_text(encoding="utf-8"))
    if path.suffix.lower() == SAFETENSORS:
        data = open_tensors(path).read(SENTENCEPIECE_TENSOR, torch.device("cpu"))
        return _from_sentencepiece(data.numpy().tobytes())
    return _from_sentencepiece(path.read_bytes())


def _from_json(text: str) -> Tokenizer:
    kind = parse_json(text)["model"]["type"]
    if kind != "Unigram":
        raise ValueError(f"it is of type {kind!r}, expected Unigram")
    return Tokenizer.from_str(text)


@dataclass(frozen=True)
class _SentencePiece:
    """The fields of a SentencePiece model that are used here."""

    pieces: list[tuple[str, float]]  # with log probabilities
    character_map: bytes  # of the normalizer, precompiled; empty: characters stay
    strips_blanks: bool


def _from_sentencepiece(data: bytes) -> Tokenizer:
    model = _parse_sentencepiece(data)
    unknown = [piece for piece, _ in model.pieces].index(UNKNOWN)
    tokenizer = Tokenizer(models.Unigram(model.pieces, unk_id=unknown, byte_fallback=False))
    tokenizer.normalizer = _normalizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=WORD_START, prepend_scheme="always")
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    end = tokenizer.token_to_id(END)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, end)])
    return tokenizer


def _normalizer(model: _SentencePiece) -> normalizers.Normalizer:
    """Map characters, then collapse blanks, as transformers does for converted models."""
    steps: list[normalizers.Normalizer] = []
    if model.character_map:
        steps.append(normalizers.Precompiled(model.character_map))
    if model.strips_blanks:
        steps.append(normalizers.Strip(left=False, right=True))
    steps.append(normalizers.Replace(Regex(" {2,}"), WORD_START if model.strips_blanks else " "))
    return normalizers.Sequence(steps)


def _parse_sentencepiece(data: bytes) -> _SentencePiece:
    """Read `ModelProto`: field 1 the pieces (1 text, 2 score), field 3 the normalizer (2 map, 4 strips blanks)."""
    pieces: list[tuple[str, float]] = []
    character_map, strips_blanks = b"", True
    for number, content in _fields(data):
        if number == 1:
            piece = dict(_fields(content))
            pieces.append((piece[1].decode("utf-8"), struct.unpack("<f", piece[2])[0]))
        elif number == 3:
            rules = dict(_fields(content))
            character_map = rules.get(2, b"")
            strips_blanks = rules.get(4, b"\1") != b"\0"
    return _SentencePiece(pieces, character_map, strips_blanks)


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of the fields of a protocol buffer message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        begin = at
        if wire_type == _VARINT:
            _, at = _varint(data, at)
        elif wire_type == _LENGTH_GIVEN:
            length, begin = _varint(data, at)
            at = begin + length
        elif wire_type in _FIXED_BYTES:
            at += _FIXED_BYTES[wire_type]
        else:
            raise ValueError(f"no SentencePiece model: wire type {wire_type}")
        if at > len(data):
            raise ValueError("it ends in the middle of a field")
        yield number, data[begin:at]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode a number in 7-bit groups, lowest first; also returns the position after it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
