"""The server: pages, thumbnails and images of one output. It changes nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pipelines.errors import RefusalError
from pipelines.pages.rendering import environment
from pipelines.viewing.guard import Access, Guard
from pipelines.viewing.index import QueryError
from pipelines.viewing.pages import Pages
from pipelines.viewing.pictures import Thumbnails, content_type, no_image
from pipelines.viewing.row_images import NoImageError, RowImagesReader
from pipelines.viewing.rows import OutputRows
from pipelines.viewing.view import View

_HERE = Path(__file__).parent
_STATIC = {"viewer.css": "text/css", "viewer.js": "text/javascript"}
_BLOCKS = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)
_OF_IMAGES = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""Policy of an image that is opened alone: nothing in it runs or is fetched."""


def viewer(rows: OutputRows, access: Access) -> ASGIApp:
    """The application that shows these rows."""
    handlers = _Handlers(rows)
    routes = [
        Route("/", handlers.gallery),
        Route("/row", handlers.row),
        Route("/refresh", handlers.refresh),
        Route("/thumbnail", handlers.thumbnail),
        Route("/image", handlers.image),
        Route("/static/{name}", handlers.static),
    ]
    app = Starlette(
        routes=routes, exception_handlers={QueryError: handlers.wrong, RefusalError: handlers.refused}
    )
    return Guard(app, access, _policy())


class _Handlers:
    """Answers to requests, each in a thread of its own."""

    def __init__(self, rows: OutputRows) -> None:
        self._rows, self._pages = rows, Pages(rows)
        self._pages.prepare()
        self._images, self._thumbnails = RowImagesReader(rows.output), Thumbnails()

    def gallery(self, request: Request) -> Response:
        """A page of rows; a form's empty fields are taken out of the URL first."""
        view = _view(request)
        if any(value == "" for _, value in request.query_params.multi_items()):
            return RedirectResponse(view.query(), 303)
        return self._page("gallery.html.j2", self._pages.gallery(view))

    def row(self, request: Request) -> Response:
        """One row."""
        at = request.query_params.get("at", "")
        position = int(at) if at.isascii() and at.isdigit() and len(at) < 10 else None
        values = self._pages.row(_view(request), request.query_params.get("row", ""), position)
        if values["view"].table == "images":
            values |= self._image_facts(values["row"])
        return self._page("row.html.j2", values)

    def refresh(self, request: Request) -> Response:
        """Take in what was committed since, and go back."""
        self._rows.refresh()
        self._pages.prepare()
        return RedirectResponse(f".{_view(request).query()}", 303)

    def thumbnail(self, request: Request) -> Response:
        """A small picture of a row's image, or one that says that there is none."""
        row = _row_number(request)
        try:
            data = self._thumbnails.get(row, lambda: self._read(row))
        except NoImageError:
            data = no_image()
        is_lasting = data != no_image()  # what failed may be there the next time
        headers = {
            "Cache-Control": "private, max-age=86400, immutable" if is_lasting else "no-store",
            "Content-Security-Policy": _OF_IMAGES,
        }
        return Response(data, media_type="image/webp", headers=headers)

    def image(self, request: Request) -> Response:
        """The image itself; what is no picture for browsers is only ever saved."""
        try:
            data = self._read(_row_number(request))
        except NoImageError as error:
            return Response(f"{error}\n", 404, media_type="text/plain")
        kind = content_type(data)
        headers = {"Content-Security-Policy": _OF_IMAGES}
        if kind is None:
            headers["Content-Disposition"] = 'attachment; filename="image.bin"'
        return Response(data, media_type=kind or "application/octet-stream", headers=headers)

    def static(self, request: Request) -> Response:
        """Style and script of the pages."""
        name = request.path_params["name"]
        if name not in _STATIC:
            return Response("no such file\n", 404, media_type="text/plain")
        return Response((_HERE / name).read_bytes(), media_type=_STATIC[name])

    def wrong(self, request: Request, error: Exception) -> Response:
        """The form again, with what was wrong with the view."""
        if request.url.path in ("/image", "/thumbnail"):
            return Response(f"{error}\n", 404, media_type="text/plain")
        try:
            view = _view(request)
        except QueryError:
            view = View()
        status = 404 if request.url.path == "/row" else 400
        return self._page("gallery.html.j2", self._pages.refused(view, str(error)), status)

    def refused(self, request: Request, error: Exception) -> Response:
        """The output could not be read just now."""
        return self._page("gallery.html.j2", self._pages.refused(View(), str(error)), 502)

    def _page(self, template: str, values: dict[str, Any], status: int = 200) -> Response:
        return HTMLResponse(environment(_HERE).get_template(template).render(values), status)

    def _read(self, row: int) -> bytes:
        return self._images.read(self._rows.place(row), self._source_columns(row))

    def _source_columns(self, row: int) -> dict[str, Any]:
        """What tells where the image is in the input, for rows that have it there alone."""
        relation = None if self._rows.output.keeps_images else self._rows.relation("images")
        return {} if relation is None else self._pages.answers.rows(relation, [row])[0]

    def _image_facts(self, row: int) -> dict[str, Any]:
        """How a row's image is shown on its page."""
        try:
            data = self._read(row)
        except NoImageError as error:
            return {"no_image": str(error), "is_picture": False, "size_bytes": 0}
        return {"no_image": "", "is_picture": content_type(data) is not None, "size_bytes": len(data)}


def _view(request: Request) -> View:
    return View.parse(request.query_params.multi_items())


def _row_number(request: Request) -> int:
    text = request.query_params.get("row", "")
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise QueryError("row: the number of a row")
    return int(text)


def _policy() -> str:
    """What pages may load and run: their own files, and the frame's style and script by their hashes.

    The hashes are of a page without any data, so that nothing in a row can be among them.
    """
    empty = '{% extends "layout.html.j2" %}{% block content %}{% endblock %}'
    page = environment(_HERE).from_string(empty).render(title="", lead="", sections=[], footer="")
    hashes: dict[str, list[str]] = {"style": [], "script": []}
    for kind, text in _BLOCKS.findall(page):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    return "; ".join(
        [
            "default-src 'self'",
            "img-src 'self' data:",
            f"style-src 'self' {' '.join(hashes['style'])}",
            f"script-src 'self' {' '.join(hashes['script'])}",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ]
    )
