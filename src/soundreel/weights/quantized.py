"""Linear layers with float8 weights, as files store them or rounded here. Legend: O outputs, I inputs."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundreel.models.kernels import reference
from soundreel.models.kernels.dispatch import operations
from soundreel.models.kernels.float8_rows import FLOAT8, Float8Rows

PRODUCT_CAPABILITY = (8, 9)
"""Lowest compute capability of GPUs that multiply float8: Ada (8.9), then Hopper."""

SIDE_MULTIPLE = 16
"""What I and O must be multiples of for float8 products."""


class Fp8Linear(nn.Linear):
    """y = x·(weight·scale)ᵀ + bias with the weight in float8.

    For the product the weight is converted to x's element type. With `takes_float8` x is rounded to float8 instead,
    each row with its own scale (W8A8).

    `weight` holds the float8 bits as int8 [O, I]: transformers and PEFT treat int8 weights as quantized and leave
    activations and adapters in their own type, and `module.to(dtype)` does not convert them. `scale` is float32, []
    or [O, 1].
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
        """[…, I] → […, O] in x's element type, or in bfloat16 for float8 rows."""
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
    """The layer with its weight rounded to float8, each row [I] scaled to float8's range."""
    with torch.device("meta"):
        rounded = Fp8Linear(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            float8=FLOAT8,
            scale_shape=(layer.out_features, 1),
        )
    rows = reference.quantize(layer.weight.detach())
    rounded.scale = rows.scale
    rounded.weight = nn.Parameter(rows.values.view(torch.int8), requires_grad=False)
    rounded.bias = layer.bias
    return rounded


def has_float8_products(device: torch.device) -> bool:
    """Whether a device multiplies float8 matrices."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= PRODUCT_CAPABILITY
