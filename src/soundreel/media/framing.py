"""What the bytes of a sound file say that FFmpeg does not pass on: lengths of frames, counts and promised sizes.

It shows which files were cut off, and keeps the time of damaged stretches in mp3 files.
"""

from functools import lru_cache

MP3_KILOBITS_MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
MP3_KILOBITS_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
MP3_RATES_HZ = (44_100, 48_000, 32_000, 0)
"""By the codes in a header of layer III; the rates are those of MPEG-1 (ISO/IEC 11172-3 and 13818-3, 2.4.2.3)."""

MP3_RATE_DIVISORS = {3: 1, 2: 2, 0: 4}
"""By the version code: MPEG-1, MPEG-2, MPEG-2.5."""

LONGEST_MP3_FRAME_BYTES = 1441
TAG_STARTS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICS")

OGG_PAGE_HEADER_BYTES = 27
LONGEST_OGG_PAGE_BYTES = OGG_PAGE_HEADER_BYTES + 255 + 255 * 255

LONGEST_EBML_HEADER_BYTES = 256
"""More than the header of any Matroska file and the beginning of its segment."""

UNKNOWN_RIFF_BYTES = frozenset({0, 0xFFFFFFFF})
"""Written by programs that stream into a pipe and cannot come back to fill in the size."""


@lru_cache(maxsize=256)  # a file has few different headers, and long ones millions of frames
def mp3_frame_bytes(header: bytes) -> int | None:
    """Length of the layer III frame with this header of 4 bytes, or None where it is not one."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version = header[1] >> 3 & 3
    kilobits = (MP3_KILOBITS_MPEG1 if version == 3 else MP3_KILOBITS_MPEG2)[header[2] >> 4]
    rate = MP3_RATES_HZ[header[2] >> 2 & 3] // MP3_RATE_DIVISORS.get(version, 1)
    if version == 1 or kilobits == 0 or rate == 0:
        return None
    slots = 144_000 if version == 3 else 72_000
    return slots * kilobits // rate + (header[2] >> 1 & 1)


def mp3_frame_count(data: bytes) -> int | None:
    """Frames that an mp3 file holds by the Xing, Info or VBRI header in `data`; None where there is no such header."""
    for name, offset in ((b"Xing", 8), (b"Info", 8), (b"VBRI", 14)):
        start = data.rfind(name)
        is_counted = name == b"VBRI" or (data[start + 4 : start + 7] == bytes(3) and data[start + 7] & 1)
        if start >= 0 and len(data) >= start + offset + 4 and is_counted:
            return int.from_bytes(data[start + offset : start + offset + 4])
    return None


def riff_promises_more(head: bytes, file_bytes: int) -> bool:
    """Whether a WAV or AVI file that begins with `head` says that it is longer than `file_bytes`."""
    size = int.from_bytes(head[4:8], "little")
    is_known = head[:4] == b"RIFF" and size not in UNKNOWN_RIFF_BYTES
    return is_known and size + 8 > file_bytes + 1  # some programs leave out the last pad byte


def matroska_promises_more(head: bytes, file_bytes: int) -> bool:
    """Whether a Matroska or WebM file that begins with `head` says that it is longer than `file_bytes` (RFC 8794)."""
    end = 0
    size, unknown = 0, -1
    for _ in ("EBML header", "Segment"):
        end += 4 + size  # past the element before and the id of this one
        width = 9 - int.from_bytes(head[end : end + 1]).bit_length()
        unknown = (1 << 7 * width) - 1  # what is written while streaming
        size = int.from_bytes(head[end : end + width]) & unknown
        end += width
    return size != unknown and end + size > file_bytes


def ogg_is_cut_off(tail: bytes) -> bool:
    """Whether the last Ogg page in `tail`, the end of a file, is incomplete or not marked as the last (RFC 3533)."""
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < OGG_PAGE_HEADER_BYTES:
        return True
    lacing = page[OGG_PAGE_HEADER_BYTES : OGG_PAGE_HEADER_BYTES + page[26]]
    is_whole = len(page) >= OGG_PAGE_HEADER_BYTES + page[26] + sum(lacing)
    return not (is_whole and page[5] & 4)


def ogg_is_chained(head: bytes, tail: bytes) -> bool:
    """Whether an Ogg file that begins with `head` ends in another stream (RFC 3533): files joined end to end."""
    last = tail.rfind(b"OggS")
    return head[14:18] != tail[last + 14 : last + 18]


class LostFrames:
    """Counts the frames that were lost in damaged stretches of an mp3 file.

    Where frame headers are damaged, FFmpeg hands out everything up to the next good header as one packet, too long
    for the header that it begins with. It stands for as many frames as usually take that many bytes.
    """

    def __init__(self) -> None:
        self._frames = 0
        self._bytes = 0

    def in_packet(self, packet: bytes) -> int:
        """Frames that `packet` replaces, less the one that it counts for."""
        expected = mp3_frame_bytes(packet[:4])
        if expected is not None and len(packet) <= expected:
            self._frames += 1
            self._bytes += len(packet)
            return 0
        if self._frames == 0 or packet.startswith(TAG_STARTS, expected or 0):
            return 0
        return max(0, round(len(packet) * self._frames / self._bytes) - 1)
