"""The HTTP client of all that asks servers."""

from typing import Any

import httpx

from soundreel.errors import EngineError


def http_client(**settings: Any) -> httpx.Client:
    """A client with these settings of `httpx.Client`, which goes by the proxies that the environment names.

    Raises:
        EngineError: it names one of a kind that is not known here, or that takes another package.
    """
    try:
        return httpx.Client(**settings)
    except ImportError as error:
        raise EngineError(
            "the environment names a SOCKS proxy: `pip install 'httpx[socks]'` for it, or clear ALL_PROXY"
        ) from error
    except ValueError as error:
        raise EngineError(f"the proxy that the environment names cannot be used ({error})") from error
