"""`--remote`: the same command, rendered by a server."""

from collections.abc import Sequence

from soundreel.cli import many
from soundreel.cli.commands.serve import read_token
from soundreel.cli.display import DisplayOptions
from soundreel.cli.statements import remote_begins
from soundreel.errors import InputError
from soundreel.request import Request, WorkOptions


def render_there(
    requests: Sequence[Request], display: DisplayOptions, work: WorkOptions, *, url: str | None, token_file: str | None
) -> None:
    """Render each request on the server at `url`, with its token where one is in a file."""
    from soundreel.server.client import Client

    if url is None:
        raise InputError("--token-file is for a server: name it with --remote")
    token = None if token_file is None else read_token(token_file)
    with Client(url, token) as client:

        def render(request: Request) -> None:
            many.render_with(client.generate, request, display, work, remote_begins)

        if len(requests) == 1:
            render(requests[0])
        else:
            many.each(requests, display, render)
