"""wav2vec2, named and shaped as transformers' `Wav2Vec2Model`.

It makes the same bits. That class is not used because importing it takes seconds, with much that no render needs.

Legend: n samples, T states, C width. One sound at a time.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "relu": functional.relu,
    "silu": functional.silu,
}
"""By the names that a config.json gives them."""


class Wav2Vec2(nn.Module):
    """Normalized samples → hidden states.

    Args:
        hidden_size: C.
        num_hidden_layers, num_attention_heads, intermediate_size: of the layers.
        conv_dim, conv_kernel, conv_stride: channels, lengths and strides of the convolutions that read samples.
        conv_bias: whether these have a bias.
        num_conv_pos_embeddings, num_conv_pos_embedding_groups: length and groups of the convolution that tells places.
        feat_extract_norm: "layer": all convolutions are normed, "group": the first alone, each channel by itself.
        do_stable_layer_norm: whether norms come before what they are for, or after it.
        feat_extract_activation, hidden_act: of `ACTIVATIONS`.
        layer_norm_eps: eps of the layers' norms.
    """

    def __init__(  # noqa: PLR0913 - the signature is the config
        self,
        *,
        hidden_size: int,
        num_hidden_layers: int,
        num_attention_heads: int,
        intermediate_size: int,
        conv_dim: Sequence[int],
        conv_kernel: Sequence[int],
        conv_stride: Sequence[int],
        conv_bias: bool,
        num_conv_pos_embeddings: int,
        num_conv_pos_embedding_groups: int,
        feat_extract_norm: str = "group",
        do_stable_layer_norm: bool = False,
        feat_extract_activation: str = "gelu",
        hidden_act: str = "gelu",
        layer_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if feat_extract_norm not in {"group", "layer"}:
            raise ValueError(f"feat_extract_norm {feat_extract_norm!r}")
        if hidden_size % num_attention_heads:
            raise ValueError(f"{num_attention_heads} heads of {hidden_size} channels")
        self.width, self.layers = hidden_size, num_hidden_layers
        self.kernels, self.strides = tuple(conv_kernel), tuple(conv_stride)
        widths = [1, *conv_dim]
        self.feature_extractor = _Convolutions(
            _Convolution(
                nn.Conv1d(widths[k], widths[k + 1], kernel, stride, bias=conv_bias),
                "none" if feat_extract_norm == "group" and k else feat_extract_norm,
                _activation(feat_extract_activation),
            )
            for k, (kernel, stride) in enumerate(zip(conv_kernel, conv_stride, strict=True))
        )
        self.feature_projection = nn.ModuleDict(
            {
                "layer_norm": nn.LayerNorm(widths[-1], eps=layer_norm_eps),
                "projection": nn.Linear(widths[-1], hidden_size),
            }
        )
        self.encoder = _Encoder(
            _Places(
                hidden_size,
                num_conv_pos_embeddings,
                num_conv_pos_embedding_groups,
                _activation(feat_extract_activation),
            ),
            [
                _Layer(hidden_size, num_attention_heads, intermediate_size, _activation(hidden_act), layer_norm_eps)
                for _ in range(num_hidden_layers)
            ],
            nn.LayerNorm(hidden_size, eps=layer_norm_eps),
            is_stable=do_stable_layer_norm,
        )

    def forward(self, samples: Tensor) -> list[Tensor]:
        """[1, n] → the input of each layer, then the normed output: each [1, T, C]."""
        x = self.feature_projection["layer_norm"](self.feature_extractor(samples).transpose(1, 2))
        states: list[Tensor] = self.encoder(self.feature_projection["projection"](x))
        return states


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    """`ValueError` for one that is not known."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r}")
    return ACTIVATIONS[name]


class _Convolutions(nn.Module):
    """All of them, one after the other: samples [1, n] → [1, channels, T]."""

    def __init__(self, layers: "Iterable[_Convolution]") -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(layers)

    def forward(self, samples: Tensor) -> Tensor:
        x = samples[:, None]
        for layer in self.conv_layers:
            x = layer(x)
        return x


class _Convolution(nn.Module):
    """A convolution, its norm and its activation: [1, channels, length] → the same with other sizes."""

    def __init__(self, convolution: nn.Conv1d, norm: str, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = convolution
        self._activation, self._norm = activation, norm
        width = convolution.out_channels
        if norm == "layer":
            self.layer_norm: nn.Module = nn.LayerNorm(width)
        elif norm == "group":
            self.layer_norm = nn.GroupNorm(num_groups=width, num_channels=width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self._norm == "layer":
            x = self.layer_norm(x.transpose(-2, -1)).transpose(-2, -1)
        elif self._norm == "group":
            x = self.layer_norm(x)
        return self._activation(x)


class _Places(nn.Module):
    """A wide convolution whose output tells states where they are: [1, T, C] → the same shape."""

    def __init__(self, width: int, length: int, groups: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = _NormedConvolution(width, length, groups)
        self._activation, self._is_even = activation, length % 2 == 0

    def forward(self, x: Tensor) -> Tensor:
        made = self.conv(x.transpose(1, 2))
        if self._is_even:  # its padding makes one too many
            made = made[:, :, :-1]
        return self._activation(made).transpose(1, 2)


class _NormedConvolution(nn.Module):
    """A convolution whose weight is a direction (original1), and its length at each place (original0).

    Named as by `torch.nn.utils.parametrizations.weight_norm`, which takes the norm of a weight when it is built: on the
    meta device that imports torch._dynamo, for seconds.
    """

    def __init__(self, width: int, length: int, groups: int) -> None:
        super().__init__()
        self._padding, self._groups = length // 2, groups
        self.bias = nn.Parameter(torch.zeros(width))
        self.parametrizations = nn.ModuleDict({"weight": nn.Module()})
        factors = self.parametrizations["weight"]
        factors.original0 = nn.Parameter(torch.ones(1, 1, length))
        factors.original1 = nn.Parameter(torch.empty(width, width // groups, length))
        nn.init.normal_(factors.original1)

    def forward(self, x: Tensor) -> Tensor:
        factors = self.parametrizations["weight"]
        weight = torch._weight_norm(factors.get_parameter("original1"), factors.get_parameter("original0"), 2)
        return functional.conv1d(x, weight, self.bias, padding=self._padding, groups=self._groups)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._head = width // heads
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).view(1, x.shape[1], -1, self._head).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, scale=self._head**-0.5)
        made: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(1, x.shape[1], -1))
        return made


class _FeedForward(nn.Module):
    def __init__(self, width: int, inner: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(width, inner)
        self.output_dense = nn.Linear(inner, width)
        self._activation = activation

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.output_dense(self._activation(self.intermediate_dense(x)))
        return made


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, inner: int, activation: Callable[[Tensor], Tensor], eps: float) -> None:
        super().__init__()
        self.attention = _Attention(width, heads)
        self.layer_norm = nn.LayerNorm(width, eps=eps)
        self.feed_forward = _FeedForward(width, inner, activation)
        self.final_layer_norm = nn.LayerNorm(width, eps=eps)

    def norm_before(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.layer_norm(x))
        made: Tensor = x + self.feed_forward(self.final_layer_norm(x))
        return made

    def norm_after(self, x: Tensor) -> Tensor:
        x = self.layer_norm(x + self.attention(x))
        made: Tensor = self.final_layer_norm(x + self.feed_forward(x))
        return made


class _Encoder(nn.Module):
    """The layers: [1, T, C] → the input of each, then the normed output."""

    def __init__(self, places: _Places, layers: Sequence[_Layer], norm: nn.LayerNorm, *, is_stable: bool) -> None:
        super().__init__()
        self.pos_conv_embed, self.layer_norm, self._is_stable = places, norm, is_stable
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = x + self.pos_conv_embed(x)
        if not self._is_stable:
            x = self.layer_norm(x)
        states = [x]
        for layer in self.layers:
            assert isinstance(layer, _Layer)
            states.append(layer.norm_before(states[-1]) if self._is_stable else layer.norm_after(states[-1]))
        if self._is_stable:
            states[-1] = self.layer_norm(states[-1])
        return states
