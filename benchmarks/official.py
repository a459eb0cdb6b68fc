"""The official transformer (PyPI package `wan22`, dev-only) with random weights: the yardstick of `benchmarks.gpu`.

Its modules are imported without the package's `__init__`, which wants FlashAttention. In its place stands PyTorch's
fastest exact attention, and the rope tables, which the official code leaves on the CPU, lie on the device: both speed
it up.
"""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

PACKAGES = ("wan", "wan.modules", "wan.modules.s2v", "wan.distributed")

PUBLISHED: dict[str, Any] = {
    "cond_dim": 16,
    "audio_dim": 1024,
    "enable_adain": True,
    "adain_mode": "attn_norm",
    "audio_inject_layers": [0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39],
    "zero_init": True,
    "zero_timestep": True,
    "enable_motioner": False,
    "enable_framepack": True,
    "framepack_drop_mode": "padd",
    "dim": 5120,
    "ffn_dim": 13824,
    "num_heads": 40,
    "num_layers": 40,
}
"""Of Wan2.2-S2V-14B's config.json."""


def build(device: torch.device, dtype: torch.dtype, config: dict[str, Any] | None = None) -> nn.Module:
    """`WanModel_S2V`; raises `ImportError` where the package is missing."""
    module = _module()
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: nn.Module = module.WanModel_S2V(**(PUBLISHED if config is None else config))
    finally:
        torch.set_default_dtype(before)
    model.to(device, dtype)
    for part in model.modules():
        for name in ("freqs", "pre_compute_freqs"):
            table = getattr(part, name, None)
            if isinstance(table, Tensor):
                setattr(part, name, table.to(device, torch.complex128))
    return model.eval().requires_grad_(False)


def forward(model: nn.Module, dtype: torch.dtype, inputs: dict[str, Tensor]) -> Callable[[], Tensor]:
    """One pass over inputs as ours takes them: `latents`, `t`, `text`, `audio`, `reference`, `motion`."""

    def run() -> Tensor:
        with torch.autocast(inputs["latents"].device.type, dtype), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made: Tensor = model(
                [inputs["latents"]],
                inputs["t"].reshape(1),
                [inputs["text"]],
                seq_len=None,
                ref_latents=[inputs["reference"]],
                motion_latents=[inputs["motion"]],
                cond_states=[torch.zeros_like(inputs["latents"])],
                audio_input=inputs["audio"][None],
                motion_frames=[73, 19],
                drop_motion_frames=False,
            )[0]
        return made

    return run


def _module() -> Any:
    spec = importlib.util.find_spec("wan")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("the package wan22 is not installed")
    root = Path(spec.submodule_search_locations[0]).parent
    for name in PACKAGES:
        bare = ModuleSpec(name, None, is_package=True)
        bare.submodule_search_locations = [str(root.joinpath(*name.split(".")))]
        sys.modules.setdefault(name, importlib.util.module_from_spec(bare))
    kernels: Any = importlib.import_module("wan.modules.attention")
    kernels.flash_attention = _attention
    return importlib.import_module("wan.modules.s2v.model_s2v")


def _attention(q: Tensor, k: Tensor, v: Tensor, **_unused: Any) -> Tensor:
    q, k, v = (x.transpose(1, 2).to(v.dtype) for x in (q, k, v))
    if not q.is_cuda:
        return scaled_dot_product_attention(q, k, v).transpose(1, 2)
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]):
        return scaled_dot_product_attention(q, k, v).transpose(1, 2)
