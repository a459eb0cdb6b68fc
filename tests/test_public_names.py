"""What `import soundreel` offers, and how its objects look when they are printed."""

from pathlib import Path

import soundreel
from soundreel import InputError, Progress, Report, Request, Server, Solver, generate


def test_every_public_name_is_there() -> None:
    found = {name: getattr(soundreel, name) for name in soundreel.__all__}
    assert set(dir(soundreel)) == set(found)
    assert all(value is not None for value in found.values())


def test_all_that_a_request_is_made_of_can_be_named() -> None:
    """Groups, enumerations, and what callbacks and errors are."""
    names = (
        "Window Guide Sampling Compute Server Output WorkOptions EngineName ClipSplit AvAlign RefFit Solver Attention "
        "Precision VaePrecision Memory Interpolation Plan Shot Clip Progress Stage Report Result SoundreelError "
        "InputError MediaError WeightsError EngineError Cancelled generate plan redo Request __version__"
    )
    assert set(names.split()) <= set(soundreel.__all__)


def test_a_result_is_printed_in_a_few_words(tune: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    listen: Report = seen.append
    request = Request(
        audio=tune,
        width=64,
        height=64,
        frames=40,
        infer_frames=8,
        engine="draft",
        server=Server(urls=("http://localhost:1",)),
        solver=Solver.EULER,
        output=tmp_path / "a.mp4",
    )
    result = generate(request, listen)
    assert seen
    assert len(repr(result)) < 500
    assert str(result.path) in repr(result)


def test_an_error_has_a_field_and_is_a_value_error() -> None:
    error = InputError("what is wrong", field="sampling.steps")
    assert (str(error), error.field, isinstance(error, ValueError)) == ("what is wrong", "sampling.steps", True)
    assert InputError("nothing in particular").field is None
