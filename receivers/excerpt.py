"""How the body of an error answer begins: enough to say what the server said."""

from __future__ import annotations

from ebbtide import Fault, Response

_INFLATED = 64 << 20  # bytes to which an error answer may inflate before we are done with its excerpt


async def excerpt(response: Response, most: int) -> str:
    """Return at most ``most`` bytes of the body as text; as much of it as came, where it breaks off."""
    body = b""
    try:
        async for chunk in response.chunks(_INFLATED):
            body += chunk[:most]
            if len(body) >= most:
                break
    except Fault:  # the status says enough
        return body.decode(errors="replace")
    return body[:most].decode(errors="replace")
