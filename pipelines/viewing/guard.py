"""Who may look, and what a browser may do with the answer.

Answered are only reads. Without a token only this machine can connect, but all of its users can: `--token`
asks them for one, too. The Host must name this machine then, or a page elsewhere whose name is pointed here
could read along. Where other machines can connect, each request needs the token: once in the URL that was
printed, from then on in a cookie.
"""

from __future__ import annotations

import hashlib
import hmac
import html
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
TOKEN = "token"  # noqa: S105 - the parameter's name
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may look.

    Attributes:
        token: That each request needs; None where only this machine can connect.
        hosts: That a request may name; None for all, where there is a token.
    """

    token: str | None = field(default=None, repr=False)
    hosts: frozenset[str] | None = LOOPBACK

    @property
    def cookie(self) -> str:
        """Name of the cookie: servers at other ports share the cookies of a host."""
        return f"view_{hashlib.sha256((self.token or '').encode()).hexdigest()[:12]}"


class Guard:
    """Refuses, or passes on and adds the headers.

    Args:
        app: What is guarded.
        access: Who may look.
        policy: The Content-Security-Policy of answers that have none of their own.
    """

    def __init__(self, app: ASGIApp, access: Access, policy: str) -> None:
        self._app, self._access, self._policy = app, access, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            answer = self._refusal(scope) or self._app
            await answer(scope, receive, self._with_headers(send))
        # anything else, such as a WebSocket, is closed without an answer

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that is not passed on."""
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD"):
            return _plain(405, "only GET and HEAD: nothing can be changed here", {"Allow": "GET, HEAD"})
        if self._access.hosts is not None and _host_name(headers.get("host", "")) not in self._access.hosts:
            return _plain(421, f"this server answers to {', '.join(sorted(self._access.hosts))} only")
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return _plain(403, "pages of other sites cannot ask here")
        return None if self._access.token is None else self._without_token(scope, headers)

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in pairs if name == TOKEN]
        if given and self._is_token(given[0]):
            answer = _again(urlencode([pair for pair in pairs if pair[0] != TOKEN]))
            answer.set_cookie(
                self._access.cookie, self._access.token or "", httponly=True, samesite="strict", path="/"
            )
            return answer
        try:
            cookies: SimpleCookie = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            cookies = SimpleCookie()
        own = cookies.get(self._access.cookie)
        if own is not None and self._is_token(own.value):
            return None
        if headers.get("sec-fetch-site") == "cross-site":
            return _again(urlencode(pairs))
        return _plain(401, "open the URL that `python -m jobs view` printed: it has the token")

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._access.token or "").encode())

    def _with_headers(self, send: Send) -> Send:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Content-Security-Policy", self._policy)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        return guarded


def _again(query: str) -> Response:
    """Ask for the same page with another query.

    A redirect would not do: where a link on another site began it, the browser does not send the cookie.
    """
    url = html.escape(f"?{query}")
    return HTMLResponse(
        '<!doctype html><link rel="icon" href="data:,">'
        f'<meta http-equiv="refresh" content="0; url={url}"><a href="{url}">Go on</a>'
    )


def _plain(status: int, text: str, headers: dict[str, Any] | None = None) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers)


def _host_name(host: str) -> str:
    """The name in a Host header, without the port."""
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    return name.lower()
