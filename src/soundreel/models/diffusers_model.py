"""The S2V transformer as a diffusers model: saved and loaded as those are, with diffusers' methods for adapters.

For programs that work with diffusers. A render does not need it, and importing diffusers takes seconds.
"""

import inspect

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.models.modeling_utils import ModelMixin

from soundreel.models import transformer


class WanS2VTransformer3DModel(ModelMixin, transformer.WanS2VTransformer3DModel, ConfigMixin, PeftAdapterMixin):
    """As `soundreel.models.transformer.WanS2VTransformer3DModel`; its name is what config.json says."""

    _no_split_modules = ["WanS2VTransformerBlock"]  # noqa: RUF012 - the form that diffusers reads
    _repeated_blocks = ["WanS2VTransformerBlock"]  # noqa: RUF012
    _skip_layerwise_casting_patterns = ["embedding", "embedder", "packer", "encoder", "norm", "proj_out"]  # noqa: RUF012

    __init__ = register_to_config(inspect.unwrap(transformer.WanS2VTransformer3DModel.__init__))
