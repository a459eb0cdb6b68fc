"""References of the project's own: what the official package computes on fresh random tiny weights.

A folder laid out like the golden data: `tiny_official/` and `tiny_comfy/` hold one tiny checkpoint in both layouts,
`inputs/` sounds, pictures and a pose video, `cases/` an index and one file per case.
"""


class NotInstalledError(RuntimeError):
    """The official package is missing."""

    def __init__(self) -> None:
        super().__init__("the wan22 package is not installed: pip install --no-deps wan22")
