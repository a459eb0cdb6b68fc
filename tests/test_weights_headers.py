"""Headers: what a weight file holds, and what is said of one that is damaged."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType
from safetensors.torch import save_file

from soundreel.errors import WeightsError
from soundreel.weights.headers import check_torch_file, read_header
from weight_files import random_floats, shape_only_file, write_gguf


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file({"a.weight": random_floats(3, 4), "b": torch.ones(5, dtype=torch.bfloat16)}, path, {"made": "here"})
    return path


def test_names_shapes_types_and_metadata(whole: Path) -> None:
    header = read_header(whole)
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in header.tensors.items()} == {
        "a.weight": ("F32", (3, 4)),
        "b": ("BF16", (5,)),
    }
    assert header.metadata == {"made": "here"}


def test_offsets_point_at_the_bytes(whole: Path) -> None:
    tensor = read_header(whole).tensors["a.weight"]
    data = whole.read_bytes()[tensor.offset : tensor.offset + tensor.size_bytes]
    assert torch.equal(torch.frombuffer(bytearray(data), dtype=torch.float32).view(3, 4), random_floats(3, 4))


def test_a_header_of_32_gigabytes_is_read_at_once(tmp_path: Path) -> None:
    path = shape_only_file(tmp_path / "large.safetensors", {"w": (4_000_000_000, 4)})
    assert path.stat().st_size > 32e9
    assert read_header(path).tensors["w"].shape == (4_000_000_000, 4)


def cut_data(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def cut_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8:12] = b"\xff\xfe\x00\x01"
    path.write_bytes(data)


def replace_by_web_page(path: Path) -> None:
    path.write_bytes(b"<!DOCTYPE html><html>404: the file that you asked for is not here</html>")


def replace_by_lfs_pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 32600000000\n")


def write_header(path: Path, header: bytes) -> None:
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(12))


def contradict_shape(path: Path) -> None:
    write_header(path, json.dumps({"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 12]}}).encode())


def lie_before_the_data(path: Path) -> None:
    write_header(path, json.dumps({"w": {"dtype": "F32", "shape": [3], "data_offsets": [-90, -78]}}).encode())


def nest(path: Path) -> None:
    write_header(path, b'{"w": ' * 100_000)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut_data, r"is cut off: [\d,]+ of [\d,]+ bytes"),
        (cut_header, "is cut off"),
        (cut_to_nothing, "is empty"),
        (garble, "is not a safetensors file"),
        (replace_by_web_page, "is not a safetensors file"),
        (replace_by_lfs_pointer, "is a Git LFS pointer.*git lfs pull"),
        (contradict_shape, "is not a safetensors file"),
        (lie_before_the_data, "is not a safetensors file"),
        (nest, "is not a safetensors file"),
    ],
)
def test_damaged_safetensors_are_named(whole: Path, damage: Callable[[Path], None], says: str) -> None:
    damage(whole)
    with pytest.raises(WeightsError, match=rf"model\.safetensors' {says}"):
        read_header(whole)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot read .*none\.safetensors': No such file"):
        read_header(tmp_path / "none.safetensors")


def test_gguf_gives_logical_shapes_and_quantizations(tmp_path: Path) -> None:
    tensors = {"w": random_floats(6, 64), "patch": random_floats(2, 3, 1, 2, 2), "bias": random_floats(7)}
    header = read_header(write_gguf(tmp_path / "m.gguf", tensors, GGMLQuantizationType.Q4_0))
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in header.tensors.items()} == {
        "w": ("Q4_0", (6, 64)),
        "patch": ("F32", (2, 3, 1, 2, 2)),
        "bias": ("F32", (7,)),
    }


@pytest.mark.parametrize("kept_bytes", [3, 40, 120, -40])
def test_damaged_gguf_is_named(tmp_path: Path, kept_bytes: int) -> None:
    path = write_gguf(tmp_path / "m.gguf", {"w": random_floats(6, 64)}, GGMLQuantizationType.Q8_0)
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(WeightsError, match=r"m\.gguf' .* is cut off or not a GGUF file"):
        read_header(path)


def test_whole_torch_file_passes(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(100)}, tmp_path / "m.pth")
    check_torch_file(tmp_path / "m.pth")


def test_cut_torch_file_is_named(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(100)}, tmp_path / "m.pth")
    cut_data(tmp_path / "m.pth")
    cut_data(tmp_path / "m.pth")
    with pytest.raises(WeightsError, match=r"m\.pth' .* is cut off or not a PyTorch file"):
        check_torch_file(tmp_path / "m.pth")


def test_other_zip_is_no_torch_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(WeightsError, match="not one that PyTorch saved"):
        check_torch_file(tmp_path / "m.pth")
