"""What `soundreel storyboard` does: proposes a storyboard for a song, or writes down that of a finished video."""

import dataclasses
from pathlib import Path
from typing import Final

from soundreel.analysis import hear
from soundreel.cli.sheets import check_target, sheet_of_request, sheet_of_video, write_sheet
from soundreel.cli.streams import answer, say
from soundreel.disk.digests import file_digest
from soundreel.disk.durable import make_folder, write_text
from soundreel.disk.outputs import Inputs, is_folder
from soundreel.errors import InputError
from soundreel.media.audio import probe_sound
from soundreel.media.video import has_pictures, read_metadata
from soundreel.render.recipe import RECIPE_KEY, read_recipe, request_fields
from soundreel.request import STORYBOARD_ENDINGS, Request, ShotRequest, Window, files_read
from soundreel.storyboard import propose, storyboard_text
from soundreel.storyboard.lyrics import lyrics_beside, read_lyrics
from soundreel.storyboard.writing import Remarks
from soundreel.units import MODEL_FPS, StrPath

REPLACE: Final = "--replace writes over it"


def write_storyboard(
    request: Request,
    *,
    voice: StrPath | None = None,
    sheet: StrPath | None = None,
    is_replaced: bool = False,
    is_silent: bool = False,
) -> None:
    """Write the storyboard of a request: its own, else that of the finished video that is its sound, else a proposal.

    It goes where the request's output would; without a name beside the sound, as `song.toml`.

    Args:
        sheet: where a picture of it goes; without a name for the storyboard there is nothing but that.

    Raises:
        InputError: there is a file of this name already, or none can be made.
    """
    source, named = request.audio, request.output.path
    if sheet is not None:
        check_target(Path(sheet), Inputs.of(files_read(request)))
        if named is None:
            _draw(source, request, Path(sheet), voice)
            return
    request = _of_video(source) or request
    song = Path(request.audio)
    target = Path(named) if named is not None else Path(song.with_suffix(".toml").name)
    _check_target(target, Inputs.of(files_read(request)), is_replaced=is_replaced)
    request = request.replace(output=dataclasses.replace(request.output, path=None))
    remarks = None
    if not request.shots:
        request, remarks = _proposed(request, voice)
    text = storyboard_text(request, target, song_sha256=file_digest(song), remarks=remarks)
    make_folder(target.parent)
    write_text(target, text)
    if not is_silent:
        say(f"{len(request.shots)} shots; edit it, then: soundreel plan {target}, soundreel {target}")
    answer(target)
    if sheet is not None:
        _draw(source, request, Path(sheet), voice)


def _draw(source: StrPath, request: Request, target: Path, voice: StrPath | None) -> None:
    """Draw the sheet of the finished video that `source` is, else of a request, for which shots are proposed."""
    if _is_finished(source):
        drawn = sheet_of_video(source)
    else:
        if not request.shots:
            request, _ = _proposed(request, voice)
        if not request.window.has_length:
            request = request.replace(window=Window(start=request.window.start, full=True))
        drawn = sheet_of_request(request, voice=voice)
    write_sheet(drawn, target)
    answer(target)


def _check_target(target: Path, inputs: Inputs, *, is_replaced: bool) -> None:
    if target.suffix.lower() not in STORYBOARD_ENDINGS:
        raise InputError(f"--output is {str(target)!r}: expected a name that ends in .toml or .json")
    if is_folder(target):
        raise InputError(f"--output is {str(target)!r}, which is a folder: name a file")
    if target.exists() and not is_replaced:
        raise InputError(f"{str(target)!r} is there already, and may hold your work: name another -o, or {REPLACE}")
    if not is_replaced:
        inputs.refuse(target, f"--output is {str(target)!r}, which")


def _proposed(request: Request, voice: StrPath | None) -> tuple[Request, Remarks]:
    """With shots for what is heard in its window."""
    sound, window = probe_sound(request.audio), request.window
    seconds = None if window.frames is None else window.frames / MODEL_FPS
    seconds = window.duration if seconds is None else seconds
    if sound.seconds <= window.start:
        raise InputError(
            f"--audio-start is {window.start:g} s, but the sound is {sound.seconds:.3f} s long: start before its end"
        )
    if request.cuts:
        return with_shots_of_cuts(request), Remarks()
    song = hear(request.audio, start=window.start, seconds=seconds, voice=voice)
    beside = lyrics_beside(Path(request.audio))
    made = propose(request, song, () if beside is None else read_lyrics(beside))
    return request.replace(shots=made.shots), made.remarks


def with_shots_of_cuts(request: Request) -> Request:
    """A request whose shots are those that its cuts make."""
    starts = [request.window.start, *sorted(request.cuts)]
    return request.replace(cuts=(), shots=[ShotRequest(start=start) for start in starts])


def _is_finished(video: StrPath) -> bool:
    """Whether a file is a video with a recipe."""
    return has_pictures(video) and RECIPE_KEY in read_metadata(video)


def _of_video(video: StrPath) -> Request | None:
    """The request of a finished video, with its length; None where it has no recipe."""
    if not _is_finished(video):
        return None
    request = Request(**request_fields(video)).replace(recipe=None)
    if not request.window.has_length:
        frames = read_recipe(video)["plan"]["frames"]
        request = request.replace(window=Window(start=request.window.start, frames=frames))
    return request if request.shots else with_shots_of_cuts(request)
