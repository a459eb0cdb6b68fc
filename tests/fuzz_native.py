"""What the native engine keeps, to be damaged: see `fuzz_targets`."""

from fuzz_targets import WorkFolder
from native_videos import AS_OPTIONS, NATIVE


class Latents(WorkFolder):
    """Plan, records, clips, carries and latents of an interrupted render."""

    words = ("generate", str(NATIVE["audio"]), *AS_OPTIONS, "--steps", "1", "--quiet", "-o", "a.mp4")
