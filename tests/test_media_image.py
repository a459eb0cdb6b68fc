"""Reference pictures: whatever the file, load_image gives what a person would see."""

import os
import struct
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from conftest import SHARED
from soundreel.errors import InputError, MediaError
from soundreel.media.image import cover, load_image, probe_image

SHARED_MEDIA = SHARED / "media"

RED, GREEN, BLUE, GREY = (200, 30, 30), (30, 200, 30), (30, 30, 200), (128, 128, 128)


def quarters(width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """Upright test picture: red | green over blue | grey, so that every turn and flip shows. [H, W, 3]"""
    picture = np.empty((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = RED
    picture[: height // 2, width // 2 :] = GREEN
    picture[height // 2 :, : width // 2] = BLUE
    picture[height // 2 :, width // 2 :] = GREY
    return picture


def stored_as(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Pixels that look like `upright` once the EXIF orientation is applied (EXIF 2.32, table 6)."""
    return {
        1: upright,
        2: upright[:, ::-1],  # row 0 is the top, column 0 the right side
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.transpose(1, 0, 2),  # row 0 is the left side, column 0 the top
        6: upright.transpose(1, 0, 2)[::-1],  # right, top
        7: upright.transpose(1, 0, 2)[::-1, ::-1],  # right, bottom
        8: upright.transpose(1, 0, 2)[:, ::-1],  # left, bottom
    }[orientation]


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    return tags


def patch_colours(picture: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """Colours at the centres of the four quarters, row by row."""
    height, width = picture.shape[:2]
    points = [(y, x) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return [tuple(int(value) for value in picture[point]) for point in points]


def stored_mode(path: Path) -> str:
    with Image.open(path) as picture:
        return picture.mode


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of the given chunks, checksums right."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def icc_profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A display profile in format version 2.4 (ICC.1:2001-04), with a white point of D50."""
    tags = {b"wtpt": xyz(0.9642, 1.0, 0.8249), **tags}
    header_size, entry_size = 128, 12
    offset = header_size + 4 + entry_size * len(tags)
    directory, contents = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        directory += name + struct.pack(">II", offset + len(contents), len(content))
        contents += content + bytes(-len(content) % 4)
    header = bytearray(header_size)
    header[0:4] = struct.pack(">I", offset + len(contents))
    header[8:12] = bytes([2, 0x40, 0, 0])
    header[12:24] = b"mntr" + space + b"XYZ "
    header[36:40] = b"acsp"
    header[68:80] = xyz(0.9642, 1.0, 0.8249)[8:]
    return bytes(header) + directory + contents


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


LINEAR = b"curv" + struct.pack(">III", 0, 0, 0)[:8]  # a curve of no points is the identity
LINEAR_GREY = icc_profile(b"GRAY", {b"kTRC": LINEAR})
LINEAR_RGB = icc_profile(
    b"RGB ",
    {
        b"rXYZ": xyz(0.4361, 0.2225, 0.0139),  # the primaries of sRGB, adapted to D50
        b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
        b"bXYZ": xyz(0.1431, 0.0606, 0.7141),
        b"rTRC": LINEAR,
        b"gTRC": LINEAR,
        b"bTRC": LINEAR,
    },
)


# -- turned upright ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"turned{suffix}"
    stored = Image.fromarray(np.ascontiguousarray(stored_as(quarters(), orientation)))
    stored.save(path, exif=exif(orientation), quality=95)

    picture = load_image(path)
    info = probe_image(path)

    assert picture.shape == (64, 96, 3)
    assert (info.width, info.height) == (96, 64)
    np.testing.assert_allclose(patch_colours(picture), [RED, GREEN, BLUE, GREY], atol=6)


def test_exif_behind_the_pixels_of_a_png_counts(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in stored_as(quarters(), 6))
    path = tmp_path / "late.png"
    path.write_bytes(
        png(
            (b"IHDR", struct.pack(">IIBBBBB", 64, 96, 8, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(rows)),
            (b"eXIf", exif(6).tobytes().removeprefix(b"Exif\0\0")),
            (b"IEND", b""),
        )
    )
    np.testing.assert_array_equal(load_image(path), quarters())
    assert (probe_image(path).width, probe_image(path).height) == (96, 64)


@pytest.mark.parametrize("damaged", [b"Exif\0\0nonsense", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0"])
def test_damaged_exif_leaves_the_picture_as_it_is(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "damaged.png"
    Image.fromarray(quarters()).save(path, exif=damaged)
    np.testing.assert_array_equal(load_image(path), quarters())
    assert probe_image(path).width == 96


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_upright(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "nine.png"
    Image.fromarray(quarters()).save(path, exif=exif(orientation))
    np.testing.assert_array_equal(load_image(path), quarters())


# -- transparency -----------------------------------------------------------------------------------------


def test_alpha_is_flattened_on_white(tmp_path: Path) -> None:
    path = tmp_path / "alpha.png"
    pixels = np.array([[(200, 0, 0, 0), (200, 0, 0, 128), (200, 0, 0, 255)]], np.uint8)
    Image.fromarray(pixels).save(path)
    assert load_image(path).tolist() == [[[255, 255, 255], [227, 127, 127], [200, 0, 0]]]


def test_grey_with_alpha_is_flattened_on_white(tmp_path: Path) -> None:
    path = tmp_path / "la.png"
    Image.fromarray(np.array([[(100, 0), (100, 255)]], np.uint8)).save(path)
    assert stored_mode(path) == "LA"
    assert load_image(path).tolist() == [[[255] * 3, [100] * 3]]


def test_palette_with_transparent_entries(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    picture = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    picture.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 200])
    picture.save(path, transparency=bytes([255, 0, 128]))
    assert load_image(path).tolist() == [[[10, 20, 30], [255, 255, 255], [127, 127, 227]]]


def test_palette_with_one_transparent_entry(tmp_path: Path) -> None:
    path = tmp_path / "palette.gif"
    picture = Image.frombytes("P", (2, 1), bytes([0, 1]))
    picture.putpalette([10, 20, 30, 200, 0, 0])
    picture.save(path, transparency=1)
    assert load_image(path).tolist() == [[[10, 20, 30], [255, 255, 255]]]


@pytest.mark.parametrize(
    ("pixels", "key", "expected"),
    [
        (np.array([[(1, 2, 3), (4, 5, 6)]], np.uint8), (1, 2, 3), [[255] * 3, [4, 5, 6]]),
        (np.array([[7, 8]], np.uint8), 7, [[255] * 3, [8] * 3]),
        (np.array([[1000, 65535 // 3]], np.uint16), 1000, [[255] * 3, [85] * 3]),
    ],
    ids=["rgb", "grey", "grey16"],
)
def test_one_colour_that_is_transparent(
    tmp_path: Path, pixels: NDArray[np.generic], key: object, expected: list[list[int]]
) -> None:
    path = tmp_path / "key.png"
    Image.fromarray(pixels).save(path, transparency=key)
    assert load_image(path).tolist() == [expected]


# -- depths and colour spaces -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bit_grey_keeps_its_shades(tmp_path: Path, suffix: str) -> None:
    shades = np.arange(256, dtype=np.uint16).reshape(16, 16)
    path = tmp_path / f"grey16{suffix}"
    assert cv2.imwrite(str(path), shades * 257)
    np.testing.assert_array_equal(load_image(path), np.repeat(shades[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_colour_keeps_its_shades(tmp_path: Path, suffix: str) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint16)
    path = tmp_path / f"colour16{suffix}"
    assert cv2.imwrite(str(path), colours[..., ::-1] * 257)
    np.testing.assert_array_equal(load_image(path), colours)


def test_16_bit_colour_with_alpha_is_flattened_on_white(tmp_path: Path) -> None:
    path = tmp_path / "alpha16.png"
    blue_green_red_alpha = np.array([[(0, 0, 200, 0), (0, 0, 200, 128), (0, 0, 200, 255)]], np.uint16) * 257
    assert cv2.imwrite(str(path), blue_green_red_alpha)
    assert load_image(path).tolist() == [[[255, 255, 255], [227, 127, 127], [200, 0, 0]]]


def test_16_bit_grey_with_alpha(tmp_path: Path) -> None:
    path = tmp_path / "la16.png"
    row = b"\0" + struct.pack(">4H", 100 * 257, 0, 100 * 257, 65535)
    header = struct.pack(">IIBBBBB", 2, 1, 16, 4, 0, 0, 0)
    path.write_bytes(png((b"IHDR", header), (b"IDAT", zlib.compress(row)), (b"IEND", b"")))
    assert load_image(path).tolist() == [[[255] * 3, [100] * 3]]


def test_float_picture_is_taken_as_0_to_1(tmp_path: Path) -> None:
    path = tmp_path / "float.tif"
    Image.fromarray(np.array([[-1.0, 0.0, 0.4, 1.0, 3.0, np.nan]], np.float32)).save(path)
    assert load_image(path)[0, :, 0].tolist() == [0, 0, 102, 255, 255, 0]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_1_bit_picture_is_black_and_white(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bits{suffix}"
    bits = np.array([[True, False, True]])
    Image.fromarray(bits).save(path)
    assert stored_mode(path) == "1"
    assert load_image(path).tolist() == [[[255] * 3, [0] * 3, [255] * 3]]


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "YCbCr"])
def test_8_bit_modes(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "mode.tif"
    Image.new("RGB", (5, 4), GREY).convert(mode, palette=Image.Palette.ADAPTIVE).save(path)
    assert stored_mode(path) == mode
    np.testing.assert_allclose(load_image(path), np.full((4, 5, 3), 128), atol=1)


def test_cmyk_jpeg_as_adobe_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "cmyk.jpg"
    Image.fromarray(quarters()).convert("CMYK").save(path, quality=95)
    assert b"Adobe" in path.read_bytes()[:64], "the inks are stored inverted, which this marker says"

    picture = load_image(path)

    np.testing.assert_allclose(patch_colours(picture), [RED, GREEN, BLUE, GREY], atol=6)
    second_opinion = cv2.imread(str(path))[..., ::-1]
    np.testing.assert_allclose(patch_colours(picture), patch_colours(second_opinion), atol=3)


def test_cmyk_tiff(tmp_path: Path) -> None:
    path = tmp_path / "cmyk.tif"
    inks = bytes([0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0, 255])
    Image.frombytes("CMYK", (3, 1), inks).save(path)
    assert load_image(path).tolist() == [[[255, 255, 255], [255, 0, 0], [0, 0, 0]]]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_colours_are_brought_to_srgb_by_the_profile(tmp_path: Path, suffix: str) -> None:
    """Half the light is 188 in sRGB: 255 · (1.055 · 0.5^(1/2.4) − 0.055)."""
    path = tmp_path / f"linear{suffix}"
    Image.new("RGB", (16, 16), (128, 128, 128)).save(path, icc_profile=LINEAR_RGB, quality=100)
    np.testing.assert_allclose(load_image(path), np.full((16, 16, 3), 188), atol=2)


def test_profile_leaves_transparency_alone(tmp_path: Path) -> None:
    path = tmp_path / "linear.png"
    Image.new("RGBA", (2, 2), (128, 128, 128, 128)).save(path, icc_profile=LINEAR_RGB)
    np.testing.assert_allclose(load_image(path), np.full((2, 2, 3), (188 + 255) / 2), atol=2)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_profile(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "linear.png"
    Image.new("L", (4, 4), 128).convert(mode).save(path, icc_profile=LINEAR_GREY)
    np.testing.assert_allclose(load_image(path), np.full((4, 4, 3), 188), atol=2)


def test_grey_picture_with_a_colour_profile(tmp_path: Path) -> None:
    path = tmp_path / "linear.png"
    Image.new("L", (4, 4), 128).save(path, icc_profile=LINEAR_RGB)
    np.testing.assert_allclose(load_image(path), np.full((4, 4, 3), 188), atol=2)


@pytest.mark.parametrize("profile", [b"no profile at all", LINEAR_RGB[:150], LINEAR_GREY])
def test_a_profile_that_cannot_apply_is_passed_over(tmp_path: Path, profile: bytes) -> None:
    path = tmp_path / "profile.png"
    Image.fromarray(quarters()).save(path, icc_profile=profile)
    np.testing.assert_array_equal(load_image(path), quarters())


def test_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "srgb.png"
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(quarters()).save(path, icc_profile=srgb)
    np.testing.assert_allclose(load_image(path), quarters(), atol=1)


# -- animations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".avif"])
def test_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"moving{suffix}"
    first, second = Image.new("RGB", (32, 16), RED), Image.new("RGB", (32, 16), BLUE)
    first.save(path, save_all=True, append_images=[second], duration=100)
    assert probe_image(path).animated
    np.testing.assert_allclose(load_image(path), np.full((16, 32, 3), RED), atol=6)


def test_first_frame_of_an_apng_is_not_its_stand_in(tmp_path: Path) -> None:
    path = tmp_path / "stand_in.png"
    stand_in, *frames = (Image.new("RGB", (8, 8), colour) for colour in (GREEN, RED, BLUE))
    stand_in.save(path, save_all=True, append_images=frames, default_image=True, duration=100)
    assert load_image(path)[0, 0].tolist() == list(RED)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".jpg"])
def test_still_pictures_are_not_animated(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"still{suffix}"
    Image.fromarray(quarters()).save(path)
    assert not probe_image(path).animated


@pytest.mark.parametrize("suffix", [".tif", ".mpo"])
def test_further_pages_and_views_are_not_an_animation(tmp_path: Path, suffix: str) -> None:
    """Phones store depth and gain maps as further pictures in a JPEG."""
    path = tmp_path / f"pages{suffix}"
    first, second = Image.new("RGB", (32, 16), RED), Image.new("RGB", (32, 16), BLUE)
    first.save(path, save_all=True, append_images=[second])
    assert not probe_image(path).animated
    np.testing.assert_allclose(load_image(path), np.full((16, 32, 3), RED), atol=6)


# -- cover ------------------------------------------------------------------------------------------------


@given(
    columns=st.integers(1, 300),
    rows=st.integers(1, 300),
    width=st.integers(1, 200),
    height=st.integers(1, 200),
)
def test_cover_fills_every_target_without_bars(columns: int, rows: int, width: int, height: int) -> None:
    covered = cover(np.full((rows, columns, 3), GREY, np.uint8), width, height)
    assert covered.dtype == np.uint8
    np.testing.assert_array_equal(covered, np.full((height, width, 3), GREY))


def test_cover_of_the_same_size_changes_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (48, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(cover(picture, 32, 48), picture)


@pytest.mark.parametrize(("width", "height"), [(480, 832), (832, 480), (96, 96), (1024, 704)])
def test_cover_keeps_circles_round_and_centred(width: int, height: int) -> None:
    y, x = np.mgrid[:900, :1200]
    disc = np.hypot(x - 599.5, y - 449.5) < 200
    covered = cover(np.repeat((disc * 255).astype(np.uint8)[..., None], 3, axis=2), width, height)

    scale = max(width / 1200, height / 900)
    rows, columns = np.nonzero(covered[..., 0] > 127)
    assert np.ptp(columns) + 1 == pytest.approx(400 * scale, abs=2)
    assert np.ptp(rows) + 1 == pytest.approx(400 * scale, abs=2)
    assert columns.mean() == pytest.approx((width - 1) / 2, abs=0.5)
    assert rows.mean() == pytest.approx((height - 1) / 2, abs=0.5)


def test_cover_crops_the_sides_of_a_wide_picture_alike() -> None:
    columns = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    covered = cover(columns, 128, 64)
    np.testing.assert_array_equal(covered[0, :, 0], np.arange(64, 192))


def test_cover_is_antialiased() -> None:
    y, x = np.mgrid[:600, :800]
    checkers = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    np.testing.assert_allclose(cover(checkers, 90, 70), np.full((70, 90, 3), 127.5), atol=3)


def test_cover_accepts_a_view_with_strides() -> None:
    mirrored = quarters()[:, ::-1]
    np.testing.assert_array_equal(cover(mirrored, 96, 64), mirrored)


# -- sizes ------------------------------------------------------------------------------------------------


def test_a_picture_of_100_megapixels_is_welcome(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (12_500, 8_000), 1).save(path)
    info = probe_image(path)
    assert (info.width, info.height) == (12_500, 8_000)
    assert load_image(path).shape == (8_000, 12_500, 3)


def test_a_decompression_bomb_is_refused_with_size_and_limit(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    path.write_bytes(png((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")))
    for read in (probe_image, load_image):
        with pytest.raises(MediaError, match=r"bomb\.png.*too large.*2500000000 pixels.*limit of 178956970"):
            read(path)


# -- bad files --------------------------------------------------------------------------------------------


def refused(error_class: type[Exception], path: str | Path) -> str:
    """The message with which both readers refuse `path`, checked to be one line naming the file."""
    messages = []
    for read in (probe_image, load_image):
        with pytest.raises(error_class) as caught:
            read(path)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "\n" not in messages[0]
    return messages[0]


def test_missing_file(tmp_path: Path) -> None:
    assert refused(InputError, tmp_path / "nothing.png") == f"no such picture: {str(tmp_path / 'nothing.png')!r}"


def test_directory(tmp_path: Path) -> None:
    assert "is a directory" in refused(InputError, tmp_path)


def test_a_file_used_as_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert "Not a directory" in refused(InputError, tmp_path / "file" / "picture.png")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    assert "empty.png' is an empty file" in refused(InputError, tmp_path / "empty.png")


def test_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "is a pipe or device" in refused(InputError, tmp_path / "pipe.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    Image.fromarray(quarters()).save(path)
    path.chmod(0)
    assert "Permission denied" in refused(InputError, path)


@pytest.mark.parametrize(
    "content",
    [b"no picture\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\0" * 5000, b"\x89PNG\r\n"],
)
def test_files_that_are_no_picture(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.png"
    path.write_bytes(content)
    assert "is not a picture that can be read: expected one of PNG, JPEG" in refused(MediaError, path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif", ".tif", ".bmp", ".avif", ".jp2"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_truncated_pictures(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"truncated{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(MediaError, match=rf"truncated{suffix}' is ") as caught:
        load_image(path)
    assert "\n" not in str(caught.value)


def test_damaged_bytes_never_end_in_another_error(tmp_path: Path) -> None:
    """Random damage to each format is loaded all the same or refused as MediaError, with no warning."""
    random = np.random.default_rng(0)
    path = tmp_path / "damaged"
    for format_name in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF", "JPEG2000", "PPM", "ICO", "TGA"):
        whole = BytesIO()
        Image.fromarray(quarters()).save(whole, format_name)
        for _ in range(40):
            damaged = np.frombuffer(whole.getvalue(), np.uint8).copy()
            damaged[random.integers(0, len(damaged), 5)] = random.integers(0, 256, 5)
            path.write_bytes(damaged.tobytes())
            with suppress(MediaError):
                assert load_image(path).shape[2] == 3


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_probing_decodes_no_pixels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"half{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert (probe_image(path).width, probe_image(path).height) == (80, 60)
    with pytest.raises(MediaError):
        load_image(path)


# -- odd names --------------------------------------------------------------------------------------------


ODD_NAMES = [
    "🎸 für Elise.png",
    "-rf.png",
    'it\'s "quoted".png',
    "no suffix",
    "wrong.jpg",
    "a\nb.png",
    "a" * 255,
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(quarters()).save(name, format="PNG")
    np.testing.assert_array_equal(load_image(name), quarters())
    assert probe_image(name).format == "PNG"


@pytest.mark.parametrize("name", ["a" * 300 + ".png", "null\0.png", "", "gone\nfor good.png", "🎸.png", "-.png"])
def test_odd_names_that_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert repr(name) in refused(InputError, name)


# -- real pictures ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not SHARED_MEDIA.is_dir(), reason="../shared/media is not there")
@pytest.mark.parametrize("name", ["Five Hundred Miles.png", "i2v_input.JPG", "pose.png"])
def test_real_pictures(name: str) -> None:
    picture = load_image(SHARED_MEDIA / name)
    info = probe_image(SHARED_MEDIA / name)
    assert picture.shape == (info.height, info.width, 3)
    second_opinion = cv2.imread(str(SHARED_MEDIA / name))[..., ::-1]
    assert np.abs(picture.astype(int) - second_opinion).mean() < 10, "OpenCV passes over colour profiles"
