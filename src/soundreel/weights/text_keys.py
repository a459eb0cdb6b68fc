"""UMT5-XXL encoder: the official names → transformers' names (which ComfyUI's files use already).

token_embedding                  shared
blocks.i.norm1                   encoder.block.i.layer.0.layer_norm
blocks.i.attn.{q,k,v,o}          encoder.block.i.layer.0.SelfAttention.{q,k,v,o}
blocks.i.pos_embedding.embedding encoder.block.i.layer.0.SelfAttention.relative_attention_bias
blocks.i.norm2                   encoder.block.i.layer.1.layer_norm
blocks.i.ffn.gate.0              encoder.block.i.layer.1.DenseReluDense.wi_0
blocks.i.ffn.fc1, .fc2           encoder.block.i.layer.1.DenseReluDense.wi_1, .wo
norm                             encoder.final_layer_norm
"""

from typing import Any

from soundreel.weights.keys import KeyTable, Shapes, count_layers

SENTENCEPIECE_TENSOR = "spiece_model"
"""ComfyUI's files carry the tokenizer: a uint8 vector, the bytes of `spiece.model`."""

TIED = frozenset({"shared.weight"})
"""Transformers ties the encoder's embedding to it; some files hold both."""

_ATTENTION = r"encoder.block.\1.layer.0.SelfAttention"
_FEED_FORWARD = r"encoder.block.\1.layer.1.DenseReluDense"

rename = KeyTable(
    [
        (r"token_embedding\.weight", r"shared.weight"),
        (r"encoder\.embed_tokens\.weight", r"shared.weight"),
        (r"norm\.weight", r"encoder.final_layer_norm.weight"),
        (r"blocks\.(\d+)\.norm1\.weight", r"encoder.block.\1.layer.0.layer_norm.weight"),
        (r"blocks\.(\d+)\.attn\.([qkvo])\.(.+)", _ATTENTION + r".\2.\3"),
        (r"blocks\.(\d+)\.pos_embedding\.embedding\.weight", _ATTENTION + r".relative_attention_bias.weight"),
        (r"blocks\.(\d+)\.norm2\.weight", r"encoder.block.\1.layer.1.layer_norm.weight"),
        (r"blocks\.(\d+)\.ffn\.gate\.0\.(.+)", _FEED_FORWARD + r".wi_0.\2"),
        (r"blocks\.(\d+)\.ffn\.fc1\.(.+)", _FEED_FORWARD + r".wi_1.\2"),
        (r"blocks\.(\d+)\.ffn\.fc2\.(.+)", _FEED_FORWARD + r".wo.\2"),
        (SENTENCEPIECE_TENSOR, None),
    ]
)
"""Official, ComfyUI or diffusers name → transformers name."""


def config_from_shapes(shapes: Shapes) -> dict[str, Any]:
    """Arguments of `UMT5Encoder`, from tensors under our names; `KeyError` if one is missing."""
    vocabulary, width = shapes["shared.weight"]
    attention = "encoder.block.0.layer.0.SelfAttention"
    buckets, heads = shapes[f"{attention}.relative_attention_bias.weight"]
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "num_heads": heads,
        "d_kv": shapes[f"{attention}.q.weight"][0] // heads,
        "d_ff": shapes["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"][0],
        "num_layers": count_layers(shapes, r"encoder\.block\.(\d+)\..*"),
        "relative_attention_num_buckets": buckets,
    }
