"""Lengths of time as people read them."""

from typing import Final

from soundreel.units import MODEL_FPS

_ROUGH_STEPS: Final = ((10, 0.1), (60, 1), (600, 10), (3600, 60))
"""Seconds below which an estimate is rounded to a step of so many; from an hour on to ten minutes."""


def duration(seconds: float) -> str:
    """`4.8 s`, `3 min 33 s`, `2 h 10 min`."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    if round(seconds) < 3600:
        return _in_two_units(round(seconds), "min", "s")
    return _in_two_units(round(seconds / 60), "h", "min")


def _in_two_units(count: int, large: str, small: str) -> str:
    """`count` of the small unit, 60 of which are a large one."""
    whole, rest = divmod(count, 60)
    return f"{whole:,} {large} {rest} {small}" if rest else f"{whole:,} {large}"


def clock(seconds: float) -> str:
    """`0:07`, `3:33`, `2:00:00`, as times of a sound may be given."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def exactly(seconds: float, digits: int = 3) -> str:
    """`4.812 s`; from a minute on with the clock as well: `213.000 s (3:33)`."""
    return f"{seconds:.{digits}f} s" + (f" ({clock(seconds)})" if seconds >= 60 else "")


def silence_follows(seconds: float, silence: float) -> list[str]:
    """What is said of a video whose last `silence` seconds come after its sound's end: nothing of less than a frame."""
    if silence * MODEL_FPS < 1:
        return []
    return [
        f"the sound ends at {seconds - silence:.2f} s, the video at {seconds:.2f} s: {silence:.2f} s of silence follow"
    ]


def rough(seconds: float) -> float:
    """An estimate without the digits that it does not know: 2167 becomes 2160, at least 0.1."""
    step = next((step for below, step in _ROUGH_STEPS if seconds < below), 600)
    return max(0.1, round(round(seconds / step) * step, 1))
