"""The example sound and picture are what their script makes, fit for a demo, and free to use."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from soundreel.media.image import load_image

EXAMPLES = Path(__file__).parents[1] / "examples"
TUNE, COVER = EXAMPLES / "tune.flac", EXAMPLES / "cover.png"

ROUNDING = 2
"""Steps by which sines of another processor may differ once rounded."""


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`examples/make_example.py`, which imports the scripts beside it."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return import_module("make_example")


def samples_of(path: Path) -> tuple[NDArray[np.int16], int]:
    """Decoded samples [samples, 2] and their rate."""
    with av.open(str(path)) as container:
        blocks = [frame.to_ndarray().reshape(-1, 2) for frame in container.decode(audio=0)]
        return np.concatenate(blocks), container.streams.audio[0].rate


def test_tune_is_what_its_script_makes(tmp_path: Path, scripts: ModuleType) -> None:
    scripts.write_flac(tmp_path / "again.flac", scripts.to_16_bit(scripts.compose()))

    again, rate = samples_of(tmp_path / "again.flac")
    committed, committed_rate = samples_of(TUNE)
    assert rate == committed_rate == scripts.SAMPLE_RATE
    assert again.shape == committed.shape
    np.testing.assert_allclose(again.astype(int), committed.astype(int), atol=ROUNDING)


def test_cover_is_what_its_script_paints(tmp_path: Path, scripts: ModuleType) -> None:
    scripts.write_png(tmp_path / "again.png", scripts.paint())

    again, committed = load_image(tmp_path / "again.png"), load_image(COVER)
    assert again.shape == committed.shape
    np.testing.assert_allclose(again.astype(int), committed.astype(int), atol=ROUNDING)


def test_tune_is_stereo_not_clipped_and_ends_in_silence() -> None:
    samples, rate = samples_of(TUNE)
    assert rate == 44_100
    assert 8 <= len(samples) / rate <= 10
    assert 20 * np.log10(np.abs(samples.astype(int)).max() / 32768) == pytest.approx(-1.0, abs=0.1)
    assert 0.5 < np.corrcoef(samples.T)[0, 1] < 0.95, "neither mono nor two unrelated sides"
    assert np.abs(samples[-rate // 20 :]).max() < 0.02 * 32768
    assert np.abs(samples[: rate // 4]).max() > 0.5 * 32768, "music from the first moment"


def test_tune_has_the_tempo_it_was_written_in() -> None:
    """Of all tempos a listener may tap, its attacks are most alike one beat of 118 per minute later."""
    samples, rate = samples_of(TUNE)
    hop = rate // 200
    blocks = samples.mean(axis=1)[: len(samples) // hop * hop].reshape(-1, hop)
    spectra = np.log1p(np.abs(np.fft.rfft(blocks, axis=1)))
    attacks = np.maximum(np.diff(spectra, axis=0), 0).sum(axis=1)
    attacks -= attacks.mean()
    tempos = np.arange(80, 160)
    lags = [round(60 / tempo * rate / hop) for tempo in tempos]
    alike = [np.dot(attacks[lag:], attacks[:-lag]) for lag in lags]
    assert tempos[int(np.argmax(alike))] == pytest.approx(118, abs=2)


def test_files_are_small_enough_to_ship() -> None:
    assert TUNE.stat().st_size < 700_000
    assert COVER.stat().st_size < 900_000
    assert load_image(COVER).shape == (1024, 768, 3)


def test_both_files_and_the_readme_say_cc0() -> None:
    assert "CC0 1.0" in (EXAMPLES / "README.md").read_text()
    with av.open(str(TUNE)) as container:
        assert "CC0 1.0" in " ".join(container.metadata.values())
    with Image.open(COVER) as picture:
        assert "CC0 1.0" in picture.info["Copyright"]
