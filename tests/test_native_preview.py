"""Previews of the native engine: the tiny decoder in its published layout, and the mix where there is none."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from native_renders import native_plan, prepared, rendered
from soundreel.engines.native.preview import NAME, Previewer, false_colours, main_axes, preview_note
from soundreel.errors import WeightsError
from soundreel.models.tiny_decoder import TinyDecoder
from soundreel.types import Progress
from soundreel.weights.preview_decoder import find_decoder, load_decoder
from weight_files import needs_golden

CPU = torch.device("cpu")

PUBLISHED = {
    "decoder.1.weight": (256, 16, 3, 3),
    "decoder.3.conv.0.weight": (256, 512, 3, 3),
    "decoder.5.conv.4.bias": (256,),
    "decoder.7.conv.weight": (256, 256, 1, 1),
    "decoder.8.weight": (128, 256, 3, 3),
    "decoder.9.conv.0.weight": (128, 256, 3, 3),
    "decoder.13.conv.weight": (256, 128, 1, 1),
    "decoder.14.weight": (64, 128, 3, 3),
    "decoder.19.conv.weight": (128, 64, 1, 1),
    "decoder.20.weight": (64, 64, 3, 3),
    "decoder.22.weight": (3, 64, 3, 3),
    "decoder.22.bias": (3,),
}
"""Some tensors of taew2_1, by name and shape."""


def tiny() -> TinyDecoder:
    torch.manual_seed(0)
    network = TinyDecoder(channels=4, widths=(16, 8, 8, 4)).eval().requires_grad_(False)
    network.decoder[-1].weight.mul_(5)
    network.decoder[-1].bias.fill_(0.5)
    return network


def latents(frames: int, channels: int = 4) -> Tensor:
    return torch.randn(channels, frames, 3, 5, generator=torch.Generator().manual_seed(1))


def test_the_layout_is_the_published_one() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in TinyDecoder().state_dict().items()}
    assert {name: shapes[name] for name in PUBLISHED} == PUBLISHED


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_as_many_pictures_as_the_vae_makes(frames: int) -> None:
    made = tiny()(latents(frames))
    assert made.shape == (1 + 4 * (frames - 1), 3, 24, 40)
    assert 0 <= float(made.min()) <= float(made.max()) <= 1


def test_what_comes_later_is_not_seen() -> None:
    z = latents(4)
    changed = z.clone()
    changed[:, 3] += 1
    before, after = tiny()(z), tiny()(changed)
    assert torch.equal(before[:9], after[:9])
    assert not torch.equal(before[9:], after[9:])


@pytest.mark.parametrize("name", ["taew2_1.safetensors", "taew2_1.pth"])
def test_weights_of_any_width_are_found_and_loaded(tmp_path: Path, name: str) -> None:
    network, path = tiny(), tmp_path / "vae_approx" / name
    path.parent.mkdir()
    stored = {**network.state_dict(), "encoder.0.weight": torch.zeros(3)}
    if name.endswith("pth"):
        torch.save(stored, path)
    else:
        save_file(stored, path)
    assert find_decoder(tmp_path) == path
    assert preview_note(tmp_path) is None
    assert torch.equal(load_decoder(path, CPU, torch.float32)(latents(2)), network(latents(2)))


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "taew2_1.safetensors"
    save_file({"decoder.1.weight": torch.zeros(4, 4, 3, 3)}, path)
    with pytest.raises(WeightsError):
        load_decoder(path, CPU, torch.float32)


def test_the_middle_is_shown_with_a_decoder_and_without(tmp_path: Path) -> None:
    for decoder, channels in ((None, 16), (tiny(), 4)):
        path = Previewer(tmp_path, decoder).show(latents(5, channels))
        with Image.open(path) as picture:
            assert (picture.size, picture.mode) == ((512, 307), "RGB")
        assert [file.name for file in tmp_path.iterdir()] == [NAME]


def with_shapes(*sizes: float, channels: int = 16, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Latents made of shapes [n, F, h, w] of these sizes, each in a mixture of channels of its own; and the shapes."""
    numbers = torch.Generator().manual_seed(seed)
    shapes = torch.randn(len(sizes), 3, 6, 10, generator=numbers)
    shapes = shapes - shapes.mean((1, 2, 3), keepdim=True)
    mixtures = torch.linalg.qr(torch.randn(channels, len(sizes), generator=numbers)).Q
    noise = 0.01 * torch.randn(channels, 3, 6, 10, generator=numbers)
    return torch.einsum("cn,n,nfhw->cfhw", mixtures, torch.tensor(sizes), shapes) + noise + 3, shapes


def correlation(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


class TestFalseColours:
    @pytest.mark.parametrize("channels", [4, 16, 48])
    def test_brightness_is_the_main_shape_and_colours_are_the_others(self, channels: int) -> None:
        z, shapes = with_shapes(4.0, 2.0, 1.0, channels=channels)
        red, green, blue = false_colours(z, main_axes(z))
        for made, shape in ((red + green + blue, 0), (red - green, 1), (red + green - 2 * blue, 2)):
            assert abs(correlation(made, shapes[shape])) > 0.98
        everything = torch.stack([red, green, blue])
        assert 0.4 < float(everything.mean()) < 0.6
        assert float(((everything > 0) & (everything < 1)).float().mean()) > 0.9

    def test_light_stays_light_from_step_to_step(self) -> None:
        """A direction and its opposite are equally good: one would flicker between two."""
        z, _ = with_shapes(4.0, 2.0, 1.0)
        axes = main_axes(z)
        other = main_axes(z + 0.2 * torch.randn(z.shape, generator=torch.Generator().manual_seed(2)), -axes)
        assert all(float(one @ another) < -0.9 for one, another in zip(axes, other, strict=True))
        assert torch.equal(main_axes(z), axes)

    def test_what_does_not_vary_is_grey(self) -> None:
        z = torch.full((16, 2, 3, 5), 0.7)
        assert torch.allclose(false_colours(z, main_axes(z)), torch.tensor(0.5))

    @pytest.mark.parametrize("channels", [1, 2])
    def test_fewer_channels_than_colours(self, channels: int) -> None:
        z = latents(3, channels)
        assert false_colours(z, main_axes(z)).shape == (3, 3, 3, 5)


@needs_golden
class TestRender:
    """On tiny weights."""

    def test_progress_names_a_picture_that_gets_better(self, tmp_path: Path) -> None:
        pictures: list[np.ndarray[Any, Any]] = []

        def listen(progress: Progress) -> None:
            if progress.preview is not None and progress.step % 4 == 0:
                with Image.open(progress.preview) as picture:
                    pictures.append(np.asarray(picture))

        decided = prepared(native_plan(width=32, height=32, frames=5, steps=8, preview=True))
        assert any("previews are rough" in note for note in decided.notes)
        rendered(decided, report=listen, folder=tmp_path)
        assert len(pictures) == 2
        assert not np.array_equal(*pictures)
