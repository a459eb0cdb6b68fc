"""`make bench`: every benchmark of this folder, one table after another."""

from benchmarks import draft, interpolation, long_sound, scoring, startup

for title, table in (
    ("Start-up", startup.main),
    ("Draft engine", draft.main),
    ("Interpolation", interpolation.main),
    ("Scores", scoring.main),
    ("A window of an hour-long mp3", long_sound.main),
):
    print(f"\n## {title}\n")
    table()
