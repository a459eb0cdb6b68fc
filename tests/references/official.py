"""The official implementation (package `wan22`, for development only), on the CPU in float32."""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from references import NotInstalledError
from references.stand_ins import PACKAGES

_PACKAGES = ("wan", "wan.modules", "wan.modules.s2v", "wan.distributed", "wan.utils", "wan.configs")
"""Their `__init__` is left out: it imports what needs a GPU's libraries."""

_FIRST = ("modules.s2v.audio_encoder", "modules.s2v.model_s2v", "modules.t5", "modules.vae2_1", "utils.fm_solvers")
"""What the pipeline imports, and what of theirs looks for torchvision: before something stands in for it."""


def official(name: str) -> ModuleType:
    """`wan.{name}`, such as `modules.t5`; raises `NotInstalledError`."""
    _leave_out_inits()
    # a default argument of the official code asks which GPU is in use
    with quiet(), patch("torch.cuda.current_device", return_value=0):
        attention = importlib.import_module("wan.modules.attention")
        attention.flash_attention = _attention  # type: ignore[attr-defined]
        return importlib.import_module(f"wan.{name}")


def official_pipeline() -> ModuleType:
    """`wan.speech2video`, whose `WanS2V.generate` renders; raises `NotInstalledError`."""
    for name in _FIRST:
        official(name)
    with _stand_ins():
        return official("speech2video")


def official_saving() -> ModuleType:
    """`wan.utils.utils`, whose `save_video` makes bytes of frames; raises `NotInstalledError`."""
    official_pipeline()
    with _stand_ins():
        return official("utils.utils")


def official_config() -> Any:
    """The published settings of S2V 14B, as attributes; raises `NotInstalledError`."""
    with _stand_ins():
        return official("configs.wan_s2v_14B").s2v_14B


@contextmanager
def quiet() -> Iterator[None]:
    """The official code uses names that torch has deprecated, and asks for CUDA's mixed precision on the CPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _folders() -> list[str]:
    if "wan" in sys.modules:
        return list(sys.modules["wan"].__path__)
    spec = importlib.util.find_spec("wan")
    return list(spec.submodule_search_locations or []) if spec else []


def _leave_out_inits() -> None:
    folders = _folders()
    if not folders:
        raise NotInstalledError
    root = Path(folders[0]).parent
    for name in _PACKAGES:
        bare = ModuleSpec(name, None, is_package=True)
        bare.submodule_search_locations = [str(root.joinpath(*name.split(".")))]
        sys.modules.setdefault(name, importlib.util.module_from_spec(bare))


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Only for a moment: other packages would take them for the real ones."""
    absent = [name for name in PACKAGES if name not in sys.modules and importlib.util.find_spec(name) is None]
    modules = {module.__name__: module for name in absent for module in PACKAGES[name]()}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


def _attention(q: Tensor, k: Tensor, v: Tensor, **_unused: Any) -> Tensor:
    """The official kernels need a GPU; this is what they compute. All are [B, L, heads, width]."""
    q, k, v = (x.transpose(1, 2).to(v.dtype) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v).transpose(1, 2)
