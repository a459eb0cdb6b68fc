"""Soundreel's nodes for ComfyUI: this folder belongs into `custom_nodes`, and soundreel into ComfyUI's Python."""

from .load_sound import LoadSoundWindow
from .save_video import SaveVideoExact
from .song_to_video import FitSound, SongToVideo

NODE_CLASS_MAPPINGS = {
    "SoundreelSongToVideo": SongToVideo,
    "SoundreelLoadSoundWindow": LoadSoundWindow,
    "SoundreelFitSound": FitSound,
    "SoundreelSaveVideoExact": SaveVideoExact,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "SoundreelSongToVideo": "Soundreel: Song to Video",
    "SoundreelLoadSoundWindow": "Load Sound (window)",
    "SoundreelFitSound": "Fit Sound (length)",
    "SoundreelSaveVideoExact": "Save Video (exact A/V)",
}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
