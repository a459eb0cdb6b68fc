"""Frame lengths, frame counts and stated sizes in the bytes of a sound file, which FFmpeg does not pass on.

They show which files are truncated, and how long the damaged parts of an mp3 file are.
"""

from functools import lru_cache

MP3_KILOBITS_MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
MP3_KILOBITS_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
MP3_RATES_HZ = (44_100, 48_000, 32_000, 0)
"""Bit rates and MPEG-1 sample rates by the codes in a layer III frame header (ISO/IEC 11172-3 and 13818-3, 2.4.2.3)."""

MP3_RATE_DIVISORS = {3: 1, 2: 2, 0: 4}
"""Version code → divisor of the sample rate: MPEG-1, MPEG-2, MPEG-2.5."""

LONGEST_MP3_FRAME_BYTES = 1441
TAG_STARTS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICS")

OGG_PAGE_HEADER_BYTES = 27
LONGEST_OGG_PAGE_BYTES = OGG_PAGE_HEADER_BYTES + 255 + 255 * 255

LONGEST_EBML_HEADER_BYTES = 256
"""Enough for the EBML header of any Matroska file and the head of its segment."""

UNKNOWN_RIFF_BYTES = frozenset({0, 0xFFFFFFFF})
"""Sizes that programs write which stream into a pipe and cannot fill in the real one."""


@lru_cache(maxsize=256)  # a file has few different headers and up to millions of frames
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
    """Number of frames stated by the Xing, Info or VBRI header of an mp3 file in `data`; None: there is no header."""
    for name, offset in ((b"Xing", 8), (b"Info", 8), (b"VBRI", 14)):
        start = data.rfind(name)
        is_counted = name == b"VBRI" or (data[start + 4 : start + 7] == bytes(3) and data[start + 7] & 1)
        if start >= 0 and len(data) >= start + offset + 4 and is_counted:
            return int.from_bytes(data[start + offset : start + offset + 4])
    return None


def riff_is_truncated(head: bytes, file_bytes: int) -> bool:
    """Whether a WAV or AVI file of `file_bytes` that begins with `head` states that it is longer."""
    size = int.from_bytes(head[4:8], "little")
    is_known = head[:4] == b"RIFF" and size not in UNKNOWN_RIFF_BYTES
    return is_known and size + 8 > file_bytes + 1  # some programs leave out the last pad byte


def matroska_is_truncated(head: bytes, file_bytes: int) -> bool:
    """Whether a Matroska or WebM file of `file_bytes` that begins with `head` states that it is longer (RFC 8794)."""
    end = 0
    size, unknown = 0, -1
    for _ in ("EBML header", "Segment"):
        end += 4 + size  # after the previous element and this one's id
        width = 9 - int.from_bytes(head[end : end + 1]).bit_length()
        unknown = (1 << 7 * width) - 1  # written by programs that stream
        size = int.from_bytes(head[end : end + width]) & unknown
        end += width
    return size != unknown and end + size > file_bytes


def ogg_is_truncated(tail: bytes) -> bool:
    """Whether the last Ogg page in `tail`, the end of a file, is incomplete or not marked as the last (RFC 3533)."""
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < OGG_PAGE_HEADER_BYTES:
        return True
    lacing = page[OGG_PAGE_HEADER_BYTES : OGG_PAGE_HEADER_BYTES + page[26]]
    is_whole = len(page) >= OGG_PAGE_HEADER_BYTES + page[26] + sum(lacing)
    return not (is_whole and page[5] & 4)


def ogg_is_chained(head: bytes, tail: bytes) -> bool:
    """Whether an Ogg file begins with `head` and ends with `tail` of two different streams (chaining, RFC 3533)."""
    last = tail.rfind(b"OggS")
    return head[14:18] != tail[last + 14 : last + 18]


class LostFrames:
    """Estimates how many frames are lost in the damaged parts of an mp3 file.

    Where frame headers are damaged, FFmpeg returns everything up to the next valid header as one packet, longer than
    the header at its beginning says. Its number of frames is estimated from the mean size of the frames before it.
    """

    def __init__(self) -> None:
        self._frames = 0
        self._bytes = 0

    def in_packet(self, packet: bytes) -> int:
        """Number of frames that `packet` stands for beyond the one that it is counted as."""
        expected = mp3_frame_bytes(packet[:4])
        if expected is not None and len(packet) <= expected:
            self._frames += 1
            self._bytes += len(packet)
            return 0
        if self._frames == 0 or packet.startswith(TAG_STARTS, expected or 0):
            return 0
        return max(0, round(len(packet) * self._frames / self._bytes) - 1)
