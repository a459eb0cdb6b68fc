"""Linear layers that compute with weights in 8 bits: as files store them, or rounded here.

Letters: O outputs, I inputs.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundreel.models.kernels.dispatch import operations
from soundreel.models.kernels.float8_rows import FLOAT8, FLOAT8_MAX, Float8Rows

PRODUCT_CAPABILITY = (8, 9)
"""Compute capability from which GPUs multiply float8: Ada and Hopper."""

SIDE_MULTIPLE = 16
"""Of inputs and outputs, for float8 products."""


class Fp8Linear(nn.Linear):
    """y = x·(weight·scale)ᵀ + bias, the weight kept in 8 bits.

    It is widened to x's element type for the product, or with `takes_float8` x is rounded to float8 too, each row with
    its own scale (W8A8).

    `weight` holds the float8 bits as int8 [O, I]: transformers and PEFT know int8 weights as quantized and leave
    activations and adapters in their own type, and `module.to(dtype)` leaves them alone. `scale` is float32, [] or
    [O, 1].
    """

    scale: Tensor
    takes_float8 = False

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool,
        float8: torch.dtype,
        scale_shape: tuple[int, ...] = (),
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias=bias, device=device)
        self.float8 = float8
        bits = torch.empty(out_features, in_features, dtype=torch.int8, device=device)
        self.weight = nn.Parameter(bits, requires_grad=False)
        self.register_buffer("scale", torch.ones(scale_shape, device=device), persistent=False)

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """The weight [O, I] in `dtype`, rounded once."""
        return (self.weight.view(self.float8).to(torch.float32) * self.scale).to(dtype)

    def forward(self, x: Tensor | Float8Rows) -> Tensor:
        """[…, I] → […, O] in x's element type; of rows in bfloat16."""
        if isinstance(x, Float8Rows):
            return self._product(x)
        if self.takes_float8 and x.dim() == 3:
            return self._product(operations(x).quantize(x)).to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return functional.linear(x, self.dequantize(x.dtype), bias)

    def _product(self, x: Float8Rows) -> Tensor:
        scale = self.scale.reshape(1, -1).expand(1, self.out_features).contiguous()
        bias = None if self.bias is None else self.bias.to(torch.bfloat16)
        product: Tensor = torch._scaled_mm(
            x.values.flatten(0, 1),
            self.weight.view(self.float8).t(),
            scale_a=x.scale.flatten(0, 1),
            scale_b=scale,
            bias=bias,
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )
        return product.view(*x.values.shape[:2], -1)


def round_linear(layer: nn.Linear) -> Fp8Linear:
    """The layer with its weight rounded to float8, each row [I] scaled to the largest value that float8 holds."""
    with torch.device("meta"):
        rounded = Fp8Linear(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            float8=FLOAT8,
            scale_shape=(layer.out_features, 1),
        )
    weight = layer.weight.detach().float()
    scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / FLOAT8_MAX
    rounded.scale = scale
    rounded.weight = nn.Parameter((weight / scale).to(FLOAT8).view(torch.int8), requires_grad=False)
    rounded.bias = layer.bias
    return rounded


def has_float8_products(device: torch.device) -> bool:
    """Whether a device multiplies float8 matrices."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= PRODUCT_CAPABILITY
