"""Linear layers that compute with weights as files store them.

Letters: O outputs, I inputs.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Fp8Linear(nn.Linear):
    """y = x·(weight·scale)ᵀ + bias, the weight kept in 8 bits and widened to x's element type for the product.

    `weight` holds the float8 bits as int8 [O, I]: transformers and PEFT know int8 weights as quantized and leave
    activations and adapters in their own type, and `module.to(dtype)` leaves them alone. `scale` is float32, [] or
    [O, 1].
    """

    scale: Tensor

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

    def forward(self, x: Tensor) -> Tensor:
        """[…, I] → […, O] in x's element type."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return functional.linear(x, self.dequantize(x.dtype), bias)
