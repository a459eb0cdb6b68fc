"""A song and its shots as one picture: a sheet, which is read line by line as a score is.

`contents` says what is shown, `layout` where each moment lies, `drawing` draws the lanes of a line.
"""

from soundreel.sheet.contents import Score, SheetShot, SongSheet
from soundreel.sheet.drawing import draw_sheet
from soundreel.sheet.peaks import sound_peaks

__all__ = ["Score", "SheetShot", "SongSheet", "draw_sheet", "sound_peaks"]
