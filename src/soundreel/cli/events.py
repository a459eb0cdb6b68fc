"""The events of `--progress json`: JSON objects on standard error, one in a line, for programs.

Their fields are described in docs/progress.md, and as a JSON schema beside it.
"""

import dataclasses
import json
import os
import sys
from typing import Any

from soundreel.cli.guard import Failure


def write_event(event: str, **fields: Any) -> None:
    """Write an event as a line, in ASCII: a file's name need not be Unicode."""
    sys.stderr.write(json.dumps({"event": event, **fields}, default=os.fspath) + "\n")
    sys.stderr.flush()


def write_error(failure: Failure) -> None:
    """Write what ends a command that does not come to its end."""
    told = dataclasses.asdict(failure)
    write_event("error", **{name: value for name, value in told.items() if name != "details" or value})
