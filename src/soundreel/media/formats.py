"""The container formats that are opened, by FFmpeg's names: each holds its sound and pictures in one file.

FFmpeg knows many more, and a file's content decides which it is taken for, whatever it is called. Playlists and scripts
(`concat`, `hls`, `dash`, `sdp`), numbered pictures (`image2`) and devices name other files or servers, and formats that
only games used have readers that nobody looks after: none of them is opened.
"""

from typing import Final

VIDEO_FORMATS: Final = (
    "mov", "matroska", "avi", "asf", "flv", "mpegts", "mpeg", "mxf", "ogg", "nut", "rm", "wtv", "gxf", "dv", "ivf",
    "nsv", "gif", "apng", "yuv4mpegpipe", "av1", "obu", "h261", "h263", "h264", "hevc", "vvc", "m4v", "mpegvideo",
    "mjpeg", "vc1", "dirac", "dnxhd", "cavsvideo",
)  # fmt: skip

SOUND_FORMATS: Final = (
    "wav", "w64", "aiff", "au", "caf", "flac", "mp3", "aac", "loas", "ac3", "eac3", "ac4", "dts", "dtshd", "truehd",
    "mlp", "amr", "amrnb", "amrwb", "ape", "tak", "tta", "wv", "shn", "mpc", "mpc8", "dsf", "wsd", "iff", "oma", "voc",
    "sox", "ircam", "nistsphere", "avr", "pvf", "gsm", "ilbc", "qcp", "lc3", "sbc", "qoa", "xwma", "vqf", "aa", "aea",
    "dss",
)  # fmt: skip

PICTURE_FORMATS: Final = ("png_pipe", "jpeg_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe")
"""Of a single picture: a pose may stand still."""

OPENED_FORMATS: Final = VIDEO_FORMATS + SOUND_FORMATS + PICTURE_FORMATS
