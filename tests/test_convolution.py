"""The VAE's convolution kernels make what PyTorch's convolutions make: on a GPU, or interpreted where Triton is."""

import os
from importlib.util import find_spec
from types import ModuleType

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")

import torch
from torch import Tensor

from soundreel.models.kernels import checks, convolution_plain, dispatch
from soundreel.models.kernels.convolution_layers import Layer, choose_tiling

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = (torch.float32, torch.bfloat16) if DEVICE.type == "cuda" else (torch.float32, torch.float16)
"""The interpreter multiplies no bfloat16."""

LIMITS = {torch.float32: 2e-3 if DEVICE.type == "cuda" else 1e-5, torch.bfloat16: 0.02, torch.float16: 2e-3}
"""Of the largest difference over the largest number; a GPU's float32 products are TF32."""


@pytest.fixture(scope="module")
def kernels() -> ModuleType:
    """The kernels, interpreted where there is no GPU: Triton reads that when they are imported."""
    if find_spec("triton") is None:
        pytest.skip("Triton is not here")
    if DEVICE.type == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    from soundreel.models.kernels import convolution  # noqa: PLC0415

    return convolution


def draw(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)
    return made.contiguous(memory_format=torch.channels_last_3d) if made.ndim == 5 else made


def weights(*shape: int, dtype: torch.dtype) -> Tensor:
    return draw(*shape, dtype=dtype, seed=1) * torch.Size(shape[1:]).numel() ** -0.5


def agree(kernels: ModuleType, name: str, *given: Tensor | None, **options: Tensor | int | None) -> None:
    made = getattr(kernels, name)(*given, **options)
    wide = [None if part is None else part.double() for part in given]
    more = {key: value.double() if isinstance(value, Tensor) else value for key, value in options.items()}
    expected = getattr(convolution_plain, name)(*wide, **more)
    assert made.shape == expected.shape
    assert made.is_contiguous(memory_format=torch.channels_last_3d)
    dtype = made.dtype
    assert float((made.double() - expected).abs().max() / expected.abs().max()) < LIMITS[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("channels", "made", "taps", "frames", "height", "width"),
    [
        (16, 40, (3, 3, 3), 3, 5, 9),
        (48, 96, (3, 3, 3), 2, 4, 11),
        (3, 96, (3, 3, 3), 1, 6, 7),
        (96, 3, (3, 3, 3), 1, 17, 8),
        (32, 24, (3, 1, 1), 4, 3, 5),
        (32, 200, (1, 1, 1), 1, 5, 6),
    ],
)
def test_causal_convolutions(
    kernels: ModuleType,
    channels: int,
    made: int,
    taps: tuple[int, int, int],
    frames: int,
    height: int,
    width: int,
    dtype: torch.dtype,
) -> None:
    x = draw(1, channels, frames + taps[0] - 1, height, width, dtype=dtype)
    weight, bias = weights(made, channels, *taps, dtype=dtype), draw(made, dtype=dtype, seed=2)
    agree(kernels, "convolve", x, weight, bias)
    agree(kernels, "convolve", x, weight, None, residual=draw(1, made, frames, height, width, dtype=dtype, seed=3))


@pytest.mark.parametrize("dtype", DTYPES)
def test_frames_are_halved_and_doubled(kernels: ModuleType, dtype: torch.dtype) -> None:
    x, bias = draw(1, 32, 5, 3, 5, dtype=dtype), draw(48, dtype=dtype)
    weight = weights(48, 32, 3, 1, 1, dtype=dtype)
    agree(kernels, "convolve", x, weight, bias, time_stride=2)
    agree(kernels, "double", x, weight, bias)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("height", "width"), [(6, 10), (5, 7), (18, 34)])
def test_pictures_are_halved_and_enlarged(kernels: ModuleType, height: int, width: int, dtype: torch.dtype) -> None:
    x, bias = draw(1, 32, 2, height, width, dtype=dtype), draw(24, dtype=dtype)
    weight = weights(24, 32, 3, 3, dtype=dtype)
    agree(kernels, "halve", x, weight, bias)
    agree(kernels, "enlarge", x, weight, bias)


def test_a_frame_does_not_depend_on_those_that_come_with_it(kernels: ModuleType) -> None:
    dtype = DTYPES[1]
    x, weight = draw(1, 32, 6, 5, 9, dtype=dtype), weights(40, 32, 3, 3, 3, dtype=dtype)
    whole = kernels.convolve(x, weight, None)
    parts = [kernels.convolve(x[:, :, first : first + 4], weight, None) for first in (0, 2)]
    assert torch.equal(whole, torch.cat(parts, dim=2))


def test_a_tiling_covers_all_channels_and_divides_what_is_read() -> None:
    for device in ((8, 0), (9, 0), (12, 0)):
        for channels in (16, 96, 192, 384):
            for made in (3, 16, 32, 96, 192, 384, 768):
                for dtype in (torch.float32, torch.bfloat16):
                    layer = Layer(channels, made, (3, 3, 3), 1, dtype)
                    tiling = choose_tiling(layer, device)
                    assert channels % tiling.depth == 0
                    assert -(-made // sum(tiling.channels)) * sum(tiling.channels) < made + sum(tiling.channels)
                    assert made % 96 or sum(tiling.channels) in {96, 128, 192}


@pytest.mark.parametrize(
    ("channels", "made", "taps", "stride", "expected"),
    [
        (96, 96, (3, 3, 3), 1, (True, 4, 32)),
        (192, 192, (3, 3, 3), 1, (True, 4, 32)),
        (384, 384, (3, 3, 3), 1, (True, 8, 64)),
        (192, 384, (3, 3, 3), 1, (True, 8, 64)),
        (384, 192, (1, 2, 2), 1, (True, 4, 32)),
        (96, 96, (1, 3, 3), 2, (True, 4, 32)),
        (384, 384, (1, 3, 3), 2, (False, 8, 32)),
        (384, 384, (3, 1, 1), 1, (False, 8, 32)),
        (192, 384, (1, 1, 1), 1, (False, 8, 32)),
        (16, 384, (3, 3, 3), 1, (False, 8, 16)),
    ],
)
def test_hopper_gets_what_was_fastest_there(
    channels: int, made: int, taps: tuple[int, int, int], stride: int, expected: tuple[int, ...]
) -> None:
    layer = Layer(channels, made, taps, stride, torch.bfloat16)
    tiling = choose_tiling(layer, (9, 0))
    assert (tiling.hopper, tiling.warps, tiling.depth) == expected
    assert not choose_tiling(layer, (8, 9)).hopper


@pytest.mark.skipif(DEVICE.type == "cuda", reason="Hopper's kernel may work here")
def test_where_the_own_kernel_fails_the_one_for_any_gpu_runs(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A CPU runs none of Hopper's; the other is interpreted."""

    def kind_of(_: torch.device, dtype: torch.dtype) -> tuple[int, int]:
        return kernels.ANY_KIND if (kernels.HOPPER_KIND, dtype) in kernels.without_own_kernel else kernels.HOPPER_KIND

    monkeypatch.setattr(kernels, "kind_of", kind_of)
    monkeypatch.setattr(kernels, "without_own_kernel", set())
    monkeypatch.setattr(checks, "CHECKED_LAYERS", (("enlarge", (24, 32, 3, 3)),))  # few: they may be interpreted
    assert dispatch.is_convolved.__wrapped__(DEVICE, torch.float32)
    assert kernels.without_own_kernel == {((9, 0), torch.float32)}
    (record,) = caplog.records
    assert "the convolution kernel for Hopper is off" in record.message


def test_where_no_kernel_works_pytorch_does(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernels, "enlarge", lambda x, weight, bias: 1.1 * convolution_plain.enlarge(x, weight, bias))
    monkeypatch.setattr(kernels, "without_own_kernel", set())
    monkeypatch.setattr(checks, "CHECKED_LAYERS", (("enlarge", (24, 32, 3, 3)),))  # few: they may be interpreted
    assert not dispatch.is_convolved.__wrapped__(DEVICE, torch.float32)
    assert "convolution kernels are off" in caplog.records[-1].message


def test_a_window_is_that_of_the_whole(kernels: ModuleType) -> None:
    """On a GPU bit by bit, however the patches lie; interpreted, a product's last bit goes by a row's place."""
    dtype = DTYPES[0] if DEVICE.type == "cpu" else DTYPES[1]
    x = draw(1, 32, 2, 20, 17, dtype=dtype)
    weight, flat = weights(24, 32, 2, 3, 3, dtype=dtype), weights(24, 32, 3, 3, dtype=dtype)
    window = x[:, :, :, 6:16, 4:14]
    for made, of_whole, inner, of_inner in (
        (kernels.convolve(window, weight, None), kernels.convolve(x, weight, None), slice(1, -1), (7, 15, 5, 13)),
        (kernels.enlarge(window, flat, None), kernels.enlarge(x, flat, None), slice(1, -1), (13, 31, 9, 27)),
        (kernels.halve(window, flat, None), kernels.halve(x, flat, None), slice(0, -1), (3, 7, 2, 6)),
    ):
        top, bottom, left, right = of_inner
        ours, whole = made[:, :, :, inner, inner], of_whole[:, :, :, top:bottom, left:right]
        assert torch.equal(ours, whole) or (DEVICE.type == "cpu" and float((ours - whole).abs().max()) < 2e-6)


def test_the_cpu_gets_pytorch() -> None:
    assert dispatch.convolutions(torch.zeros(1)) is convolution_plain


def test_convolutions_that_are_wrong_are_found() -> None:
    checks.check_convolutions(convolution_plain, torch.device("cpu"), torch.float32)
    wrong = ModuleType("wrong")
    vars(wrong).update({name: value for name, value in vars(convolution_plain).items() if not name.startswith("__")})
    vars(wrong)["halve"] = lambda x, weight, bias: 1.1 * convolution_plain.halve(x, weight, bias)
    with pytest.raises(ArithmeticError, match="halve is off by"):
        checks.check_convolutions(wrong, torch.device("cpu"), torch.float32)


@pytest.mark.skipif(DEVICE.type != "cuda", reason="no CUDA GPU is here")
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gpu_gets_kernels(dtype: torch.dtype) -> None:
    assert dispatch.is_convolved(torch.device("cuda"), dtype)
