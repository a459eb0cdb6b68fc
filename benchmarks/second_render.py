"""Two renders in one process, whose second finds its networks loaded: their progress as JSON lines on standard error.

    python -m benchmarks.second_render REQUEST

REQUEST is a JSON file with the fields of the first request; the second differs in seed and output. Each line has
`render`, 1 or 2, and `own`: seconds since that render was asked for. Two lines of render 0 say what GPU memory there is
in bytes, before the session is left (`kept`) and after (`left`): what PyTorch allocates and reserves, and what all
processes use of the device.
"""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import soundreel
from soundreel import Progress, Request, WorkOptions


def main() -> None:
    """Render twice; the exit status is 3 where this soundreel has no sessions."""
    session_of: Any = getattr(soundreel, "Session", None)
    if session_of is None:
        sys.exit(3)
    fields = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    output = Path(fields.pop("output"))
    requests = [Request(**fields, seed=k).replace(output=output.with_stem(f"{output.stem}_{k}")) for k in (1, 2)]
    with session_of(compute=requests[0].compute) as session:
        for number, request in enumerate(requests, start=1):
            begun = time.perf_counter()

            def tell(progress: Progress, number: int = number, begun: float = begun) -> None:
                _print("progress", number, begun, **dataclasses.asdict(progress))

            result = session.generate(request, tell, work=WorkOptions(keep_work=False))
            _print("result", number, begun, path=result.path, frames=result.frames)
        _print("kept", 0, begun, **device_memory())
    _print("left", 0, begun, **device_memory())


def device_memory() -> dict[str, int]:
    """In bytes; empty without a GPU."""
    import torch  # noqa: PLC0415 - the first render is to import it

    if not torch.cuda.is_available():
        return {}
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return {
        "allocated": torch.cuda.memory_allocated(),
        "reserved": torch.cuda.memory_reserved(),
        "used": total - free,
    }


def _print(event: str, number: int, begun: float, **facts: Any) -> None:
    line = {"event": event, "render": number, "own": time.perf_counter() - begun, **facts}
    print(json.dumps(line, default=str), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
