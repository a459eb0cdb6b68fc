"""Reference images: any common image file as sRGB pixels, uint8 [H, W, 3], as an image viewer shows it.

That is: rotated by its EXIF orientation, converted to sRGB by the embedded ICC profile, transparency over white, 16-bit
and float values scaled to 8 bits, and of an animation the first frame.
"""

import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from soundreel.errors import InputError, MediaError
from soundreel.media.files import check_file, reason
from soundreel.units import StrPath

FORMATS: Final = (
    "PNG", "JPEG", "WEBP", "GIF", "AVIF", "TIFF", "BMP", "JPEG2000", "PPM", "QOI", "PSD", "ICO", "TGA",
)  # fmt: skip
"""The formats that are opened, by Pillow's names. Left out are those for which Pillow starts programs (EPS, WMF)."""

ANIMATED_FORMATS: Final = frozenset({"PNG", "WEBP", "GIF", "AVIF"})
"""Formats in which further images are frames; in the others they are pages, layers, sizes or depth maps."""

BACKGROUND: Final = "white"
"""Colour behind transparent pixels."""

_TRANSPOSES: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → the transposition that turns the stored image upright. 1 is upright, other values are ignored."""

_ORIENTATIONS_ON_THE_SIDE: Final = frozenset({5, 6, 7, 8})

_PROFILE_SPACES: Final = {"RGB": ("RGB", ("RGB", "L")), "GRAY": ("L", ("L",)), "CMYK": ("CMYK", ("CMYK",))}
"""Colour space of an ICC profile → the Pillow mode that it applies to, and the modes that may be converted to that."""

_DAMAGE: Final = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, MemoryError,
    RuntimeError, ZeroDivisionError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's decoders may raise on damaged files; it has no exception of its own for them."""

_REDUCING_GAP: Final = 3.0
"""Pillow's documented value for a fast reduction that is indistinguishable from full LANCZOS resampling."""


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """Size and format of an image file, read from its header."""

    width: int  # pixels, after the EXIF orientation
    height: int
    format: str  # Pillow's name: PNG, JPEG, …
    animated: bool  # more than one frame; only the first is used


def probe_image(path: StrPath) -> ImageInfo:
    """Read an image's header, not its pixels: damage further in is found by `load_image` only.

    Raises:
        InputError: there is no such file, or it is a directory, empty, or may not be read.
        MediaError: not an image, or more pixels than Pillow's decompression bomb limit (179 million).
    """
    with _opened(path) as picture:
        width, height = picture.size
        # Pillow has applied the orientation to the size of a TIFF already.
        if picture.format != "TIFF" and _header_orientation(path, picture) in _ORIENTATIONS_ON_THE_SIDE:
            width, height = height, width
        return ImageInfo(width=width, height=height, format=picture.format or "", animated=_is_animated(picture))


def load_image(path: StrPath) -> NDArray[np.uint8]:
    """Read an image file as sRGB pixels, uint8 [H, W, 3], upright and opaque.

    16-bit values v become v / 257 (grey) or v // 256 (colour, by Pillow); float values are taken as 0..1.

    Raises:
        InputError: there is no such file, or it is a directory, empty, or may not be read.
        MediaError: not an image, damaged, truncated, or more pixels than Pillow's decompression bomb limit (179
            million).
    """
    with _opened(path) as picture:
        if picture.info.get("default_image"):
            picture.seek(1)  # an APNG may begin with an image for viewers that do not know animations
        picture.load()
        rgb = _flatten(_to_8_bit(picture), picture.info.get("icc_profile"))
        turn = _TRANSPOSES.get(_orientation(picture))
        return np.array(rgb if turn is None else rgb.transpose(turn))


def load_plain_image(path: StrPath) -> NDArray[np.uint8]:
    """Read an image by Pillow's RGB conversion alone, as many programs do: uint8 [H, W, 3].

    Colour profile, orientation and transparency are ignored. Errors as in `load_image`.
    """
    with _opened(path) as picture:
        return np.array(picture.convert("RGB"))


def cover(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Scale `picture`, uint8 [H, W, 3], so that it just covers `width` × `height` pixels, and crop it to the centre.

    The proportions are kept; the resampling is antialiased (Lanczos). Returns uint8 [height, width, 3].
    """
    rows, columns = picture.shape[:2]
    scale = max(width / columns, height / rows)
    left = max(0.0, columns - width / scale) / 2  # rounding may make the difference slightly negative
    top = max(0.0, rows - height / scale) / 2
    box = (left, top, columns - left, rows - top)
    scaled = Image.fromarray(picture).resize(
        (width, height), Image.Resampling.LANCZOS, box=box, reducing_gap=_REDUCING_GAP
    )
    return np.array(scaled)


@contextmanager
def _opened(path: StrPath) -> Iterator[Image.Image]:
    """The image at `path` with its header read; errors in the `with` block become soundreel's."""
    check_file(path, "picture")
    name = repr(os.fspath(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd metadata, and about large sizes below the limit
        try:
            with Image.open(path, formats=FORMATS) as picture:
                yield picture
        except Image.DecompressionBombError as error:
            size = str(error).partition(",")[0]
            raise MediaError(f"{name} is too large a picture: {size}; scale it down") from error
        except UnidentifiedImageError as error:
            raise MediaError(
                f"{name} is not a picture that can be read: expected one of {', '.join(FORMATS)}"
            ) from error
        except PermissionError as error:
            raise InputError(f"cannot open picture {name}: {reason(error)}") from error
        except _DAMAGE as error:
            raise MediaError(f"{name} is a damaged or unreadable picture ({reason(error)})") from error


def _is_animated(picture: Image.Image) -> bool:
    return picture.format in ANIMATED_FORMATS and bool(getattr(picture, "is_animated", False))


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation 1..8 of a loaded image; 1, upright, where the EXIF data are damaged."""
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except _DAMAGE:
        return 1


def _header_orientation(path: StrPath, picture: Image.Image) -> int:
    """EXIF orientation before the pixels are loaded; of a PNG, Pillow would load all pixels to read EXIF after them."""
    if picture.format == "PNG" and "exif" not in picture.info:
        picture.info["exif"] = _png_exif(path)
    return _orientation(picture)


def _png_exif(path: StrPath) -> bytes | None:
    """Content of the first eXIf chunk of a PNG file; other chunks are skipped unread."""
    with Path(path).open("rb") as file:
        file.seek(8)  # signature
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                return file.read(length)
            file.seek(length + 4, os.SEEK_CUR)  # content and checksum
    return None


def _to_8_bit(picture: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and float grey to 8-bit grey, which Pillow's own conversion would clip at 255 instead."""
    if picture.mode == "F":
        values = np.nan_to_num(np.asarray(picture)) * 255.0
    elif picture.mode.startswith("I"):
        values = np.asarray(picture) / 257.0
    else:
        return picture
    grey = Image.fromarray(np.rint(np.clip(values, 0, 255)).astype(np.uint8))
    key = picture.info.get("transparency")  # in a PNG: the 16-bit value of transparent pixels
    if isinstance(key, int):
        grey.putalpha(Image.fromarray(np.where(np.asarray(picture) == key, 0, 255).astype(np.uint8)))
    return grey


def _flatten(picture: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """Any 8-bit image as opaque sRGB, with `BACKGROUND` behind its transparent parts."""
    if not picture.has_transparency_data:
        return _to_srgb(picture, icc_profile)
    layered = picture.convert("LA" if picture.mode in {"1", "L", "LA", "La"} else "RGBA")
    colours = _to_srgb(layered.convert(layered.mode.removesuffix("A")), icc_profile)
    background = Image.new("RGB", picture.size, BACKGROUND)
    return Image.composite(colours, background, layered.getchannel("A"))


def _to_srgb(picture: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """An opaque 8-bit image as sRGB. A damaged profile, or one for another colour space, is ignored."""
    opaque = picture if picture.mode in {"L", "RGB", "CMYK"} else picture.convert("RGB")
    if icc_profile:
        try:
            profile = ImageCms.ImageCmsProfile(BytesIO(icc_profile))
            mode, sources = _PROFILE_SPACES.get(profile.profile.xcolor_space.strip(), ("", ()))
            if opaque.mode in sources:
                return _convert_profile(opaque.convert(mode), profile)
        except (OSError, ImageCms.PyCMSError):
            pass
    return opaque.convert("RGB")


def _convert_profile(picture: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    srgb = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(picture, profile, srgb, outputMode="RGB")
    assert converted is not None  # only the in-place variant returns None
    return converted
