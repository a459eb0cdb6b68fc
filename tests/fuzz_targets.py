"""What is damaged, and the commands that read it: a target is called with a source of chance, again and again."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from PIL import Image

from adversary import assert_plain, type_in
from command import Outcome, events_of, finish, start
from media_files import tone, write_sound, write_video
from mutations import Chance, mutate_bytes, mutate_document, pick, written
from soundreel.media.video import read_frames
from soundreel.render.recipe import read_recipe

TINY: Final = ("--engine", "draft", "--size", "32x32", "--infer-frames", "8", "--quiet")


class Target:
    """What is to be damaged is made once in a workshop; every attempt has a copy of it."""

    def __init__(self, workshop: Path) -> None:
        self.workshop = workshop
        write_sound(workshop / "tone.wav", tone(1.0, 16_000), 16_000)
        self.make()

    def make(self) -> None:
        """Put it into the workshop, beside `tone.wav`."""
        raise NotImplementedError

    def attempt(self, chance: Chance, place: Path) -> None:
        """Damage something in `place`, a copy of the workshop, and give it to a command."""
        raise NotImplementedError

    def __call__(self, chance: Chance) -> None:
        """One attempt."""
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "place"
            shutil.copytree(self.workshop, place, symlinks=True)
            self.attempt(chance, place)

    def command(self, place: Path, words: Sequence[str], about: object = "") -> Outcome:
        """Run a command, which must end as is documented."""
        done = type_in(place, words)
        assert_plain(done, (words, about))
        return done


class Recipe(Target):
    """The text in the metadata of a finished video."""

    def make(self) -> None:
        """A draft of three clips."""
        self.command(self.workshop, ("tone.wav", *TINY, "-o", "a.mp4", "--keep-work"))
        self.recipe = read_recipe(self.workshop / "a.mp4")

    def attempt(self, chance: Chance, place: Path) -> None:
        """Read the recipe, render by it, find the render that it tells of."""
        text = written(mutate_document(self.recipe, chance), chance).decode("utf-8", "ignore").replace("\0", "")
        with_metadata(place / "a.mp4", {"soundreel": text})
        render = (*TINY, "--frames", "2", "-o", "b.mp4")
        commands = (
            ("info", "a.mp4"),
            ("info", "a.mp4", "--json"),
            ("plan", "--recipe", "a.mp4", "--frames", "5"),
            ("generate", "--recipe", "a.mp4", *render),
            ("generate", "tone.wav", "--recipe", "a.mp4", *render),
            ("redo", "a.mp4", "2", "--quiet"),
            ("reprint", "a.mp4", "--crf", "30", "--quiet"),
            ("join", "a.mp4", "a.mp4", "-o", "b.mp4"),
        )
        self.command(place, pick(chance, commands), text)


def with_metadata(video: Path, metadata: dict[str, str]) -> None:
    """Replace the metadata of a video."""
    changed = video.with_name("changed.mp4")
    with av.open(str(video)) as old, av.open(str(changed), "w", options={"movflags": "use_metadata_tags"}) as new:
        new.metadata.update(metadata)
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    changed.replace(video)


class WorkFolder(Target):
    """Plan, records, clips and carries of an interrupted render."""

    words: Sequence[str] = ("generate", "tone.wav", *TINY, "--interpolate", "motion", "-o", "a.mp4")

    def make(self) -> None:
        """A render that nobody disturbs, and one that is killed in its last clip."""
        self.command(self.workshop, [*self.words[:-1], "whole.mp4", "--no-keep-work"])
        process = start(*self.words, "--progress", "json", cwd=self.workshop)
        assert any(event.get("clip") == 3 for event in events_of(process))
        process.kill()
        finish(process)

    @cached_property
    def frames(self) -> list[bytes]:
        """Of the render that nobody disturbed."""
        return frames_of(self.workshop / "whole.mp4")

    def attempt(self, chance: Chance, place: Path) -> None:
        """Damage one file or two, perhaps give some command, then the one that began the render."""
        (work,) = {path.parent for path in place.rglob("plan*.json")}
        damage = [damage_file(work, chance) for _ in range(chance.integer(1, 2))]
        others = (
            ("unfinished",),
            ("jobs", "--json"),
            ("resume", ".", "--quiet"),
            ("resume", str(work), "--quiet"),
            ("redo", str(work), "1", "--quiet"),
            ("reprint", str(work), "--quiet"),
            ("clean", "--all", "--dry-run"),
        )
        if chance.integer(0, 1):
            self.command(place, pick(chance, others), damage)
        if not (place / "a.mp4").exists():
            done = self.command(place, self.words, damage)
            assert done.code != 0 or frames_of(place / "a.mp4") == self.frames, damage


def damage_file(work: Path, chance: Chance) -> tuple[str, ...]:
    """Damage a file of a work folder; returns what was done."""
    files = sorted(path for path in work.rglob("*") if path.is_file())
    path, how = pick(chance, files), pick(chance, ("alter", "alter", "alter", "alter", "swap", "remove"))
    if how == "remove" and len(files) > 1:
        path.unlink()
        return path.name, how
    if how == "swap":
        other = pick(chance, [other for other in files if other.suffix == path.suffix])
        path.write_bytes(other.read_bytes())
        return path.name, how, other.name
    document = read_document(path)
    content = path.read_bytes()
    changed = mutate_bytes(content, chance) if document is None else written(mutate_document(document, chance), chance)
    path.write_bytes(changed)
    return path.name, how, changed.decode("utf-8", "replace") if path.suffix == ".json" else ""


def read_document(path: Path) -> Any:
    """What a JSON file holds; None for any other."""
    try:
        return json.loads(path.read_bytes()) if path.suffix == ".json" else None
    except (ValueError, RecursionError):
        return None


def frames_of(video: Path) -> list[bytes]:
    """The decoded pictures of a video."""
    return [frame.tobytes() for frame in read_frames(video)]


class Media(Target):
    """Headers of sounds, pictures and videos."""

    sounds = ("a.wav", "a.mp3", "a.flac", "a.m4a", "a.ogg", "a.opus", "a.wma", "a.mka", "a.aiff", "a.caf")
    pictures = ("a.png", "a.jpg", "a.gif", "a.webp", "a.bmp", "a.tiff")
    videos = ("a.mp4", "a.mkv", "a.avi", "a.mov", "a.ts")

    def make(self) -> None:
        """One of each format, a second long."""
        sound = tone(1.0, 48_000, channels=2)
        for name in self.sounds:
            write_sound(self.workshop / name, sound, 48_000)
        for name in self.videos:
            write_video(self.workshop / name, sound, 48_000)
        picture = Image.fromarray(np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3))
        for name in self.pictures:
            picture.save(self.workshop / name)

    def attempt(self, chance: Chance, place: Path) -> None:
        """Give a damaged file to a command that takes such ones."""
        name = pick(chance, (*self.sounds, *self.pictures, *self.videos))
        changed = mutate_bytes((place / name).read_bytes(), chance)
        (place / name).write_bytes(changed)
        render = (*TINY, "--frames", "2", "-o", "out.mp4")
        commands: list[tuple[str, ...]] = [("plan", name), ("generate", name, *render), ("info", name)]
        if name in self.pictures:
            commands = [("generate", "tone.wav", "--ref-image", name, *render)]
        if name in self.videos:
            commands += [("generate", "tone.wav", "--pose-video", name, *render), ("plan", "--recipe", name)]
        self.command(place, pick(chance, commands), changed[:600])
