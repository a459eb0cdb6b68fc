"""Words in prompts that determine colours: colour names, scenes and moods. Data for `palette`."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

COLOUR_WORDS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "red": (214, 40, 40),
        "crimson": (178, 20, 54),
        "scarlet": (236, 50, 30),
        "ruby": (180, 20, 80),
        "maroon": (120, 20, 40),
        "burgundy": (116, 16, 52),
        "coral": (255, 120, 96),
        "salmon": (250, 142, 122),
        "orange": (250, 128, 24),
        "amber": (255, 178, 20),
        "copper": (190, 106, 58),
        "bronze": (170, 120, 60),
        "brown": (124, 78, 44),
        "gold": (226, 176, 54),
        "golden": (226, 176, 54),
        "yellow": (250, 218, 50),
        "lemon": (246, 236, 90),
        "beige": (222, 206, 172),
        "cream": (250, 238, 208),
        "lime": (168, 230, 40),
        "green": (44, 160, 74),
        "emerald": (20, 160, 104),
        "olive": (128, 128, 44),
        "mint": (140, 230, 190),
        "teal": (16, 140, 140),
        "turquoise": (52, 208, 198),
        "cyan": (40, 210, 236),
        "aqua": (40, 210, 236),
        "azure": (40, 140, 250),
        "blue": (38, 84, 220),
        "navy": (26, 40, 110),
        "cobalt": (24, 72, 176),
        "sapphire": (20, 66, 170),
        "indigo": (76, 40, 170),
        "violet": (130, 70, 220),
        "purple": (130, 44, 170),
        "lavender": (182, 160, 240),
        "lilac": (200, 162, 222),
        "magenta": (224, 30, 180),
        "fuchsia": (236, 40, 160),
        "pink": (250, 130, 180),
        "rose": (234, 90, 130),
        "peach": (255, 190, 150),
        "white": (240, 242, 246),
        "silver": (188, 194, 204),
        "grey": (128, 132, 140),
        "gray": (128, 132, 140),
        "black": (30, 30, 36),
    }
)
"""Colour name → sRGB, chosen to look well in a dark picture."""

SCENE_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sunset": ("orange", "magenta", "indigo"),
        "sunrise": ("peach", "coral", "azure"),
        "fire": ("red", "orange", "amber"),
        "flame": ("red", "orange", "amber"),
        "ocean": ("navy", "teal", "turquoise"),
        "sea": ("navy", "teal", "turquoise"),
        "forest": ("green", "emerald", "olive"),
        "aurora": ("emerald", "cyan", "violet"),
        "night": ("indigo", "navy", "lavender"),
        "midnight": ("navy", "indigo", "azure"),
        "ice": ("cyan", "azure", "white"),
        "autumn": ("copper", "orange", "crimson"),
        "spring": ("mint", "pink", "lime"),
        "candy": ("pink", "turquoise", "lemon"),
        "cyberpunk": ("magenta", "cyan", "violet"),
        "rainbow": ("red", "yellow", "cyan", "violet"),
    }
)
"""Word → names of the colours that it stands for."""


@dataclass(frozen=True, kw_only=True)
class Mood:
    """How a word changes all colours; by default not at all."""

    chroma: float = 1.0  # factor
    lightness: float = 0.0  # added
    hue: float | None = None  # degrees: the first hue, where the prompt names no colours
    backdrop: float = 1.0  # factor on the lightness of the darkest tone


MOOD_WORDS: Mapping[str, Mood] = MappingProxyType(
    {
        "warm": Mood(hue=55),
        "cosy": Mood(hue=55, chroma=0.9),
        "cozy": Mood(hue=55, chroma=0.9),
        "cold": Mood(hue=240),
        "cool": Mood(hue=225),
        "icy": Mood(hue=225, lightness=0.06),
        "neon": Mood(chroma=1.4, lightness=0.04, backdrop=0.6),
        "vibrant": Mood(chroma=1.3),
        "vivid": Mood(chroma=1.3),
        "saturated": Mood(chroma=1.3),
        "colorful": Mood(chroma=1.25),
        "colourful": Mood(chroma=1.25),
        "pastel": Mood(chroma=0.75, lightness=0.14, backdrop=4.2),
        "soft": Mood(chroma=0.8, lightness=0.05, backdrop=1.5),
        "muted": Mood(chroma=0.55),
        "desaturated": Mood(chroma=0.4),
        "monochrome": Mood(chroma=0.0),
        "dark": Mood(lightness=-0.10, backdrop=0.6),
        "moody": Mood(lightness=-0.08, chroma=0.85, backdrop=0.7),
        "gloomy": Mood(lightness=-0.10, chroma=0.6, backdrop=0.7),
        "bright": Mood(lightness=0.10, backdrop=1.8),
    }
)
"""Word → its change of all colours."""
