"""Who is answered, and what a browser may do with the answer."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from pipelines.viewing.guard import Access
from tests.pipelines.made_generations import MadeGenerations
from tests.pipelines.viewing.made_outputs import client

SECRET = "a-secret"
TOKEN = Access(token=SECRET, hosts=None)
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> MadeGenerations:
    columns = {"prompt": [f"{HOSTILE} {n}" for n in range(12)], f"x{HOSTILE}\"'": [HOSTILE] * 12}
    return MadeGenerations(str(tmp_path_factory.mktemp("run") / "out"), columns=columns).commit()


@pytest.fixture(scope="module")
def viewed(run: MadeGenerations, tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    return client(run.uri, tmp_path_factory.mktemp("index"))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_nothing_but_reading(viewed: TestClient, method: str) -> None:
    assert viewed.request(method, "/").status_code == 405
    assert viewed.head("/").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8123", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8123", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:80", 421),
        ("evil.example:127.0.0.1", 421),
        ("", 421),
    ],
)
def test_only_names_of_this_machine_against_rebinding(viewed: TestClient, host: str, status: int) -> None:
    assert viewed.get("/", headers={"host": host}).status_code == status


def test_other_sites_cannot_embed_or_ask(viewed: TestClient) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert viewed.get("/image?row=0", headers=headers).status_code == 403
    assert viewed.get("/", headers={**headers, "sec-fetch-mode": "navigate"}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/row?row=s1", "/image?row=0", "/thumbnail?row=0", "/nowhere", "/?page=x"]
)
def test_headers_of_every_answer(viewed: TestClient, path: str) -> None:
    headers = viewed.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "'unsafe-inline'" not in headers["content-security-policy"].partition("script-src")[2]
    assert headers["content-security-policy"].startswith("default-src")


def test_what_is_in_rows_is_text_on_pages(viewed: TestClient) -> None:
    for path in (
        "/",
        "/row?row=s1",
        f"/?q={HOSTILE}",
        f"/?sort={HOSTILE}",
        f"/?where={HOSTILE}",
        "/?table=failed",
    ):
        page = viewed.get(path).text
        assert "<script>alert" not in page
        assert "<img src=x" not in page


def test_a_column_of_any_name_can_be_filtered(viewed: TestClient) -> None:
    name = f"x{HOSTILE}\"'"
    page = viewed.get("/", params={f"is.{name}": HOSTILE, "sort": name, "columns": name})
    assert page.status_code == 200
    assert "<strong>12</strong> rows" in page.text


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/..%2fserver.py",
        "/static/%2e%2e%2fserver.py",
        "/static//etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/image?row=../../etc/passwd",
        "/image?row=-1",
        "/image?row=999999",
        "/image?row=1%00",
        "/image?path=/etc/passwd",
        "/thumbnail?row=1e9",
        "/row?row=../../etc/passwd",
    ],
)
def test_urls_lead_to_rows_and_nowhere_else(viewed: TestClient, path: str) -> None:
    answer = viewed.get(path)
    assert answer.status_code in (400, 404)
    assert "root:" not in answer.text


@pytest.mark.parametrize("data", [b"<svg onload='alert(1)'/>", b"<!doctype html><script>alert(1)</script>"])
def test_markup_in_an_image_column_is_only_ever_saved(tmp_path: Path, data: bytes) -> None:
    image = {"bytes": data, "path": "x.svg"}
    run = MadeGenerations(str(tmp_path / "out"), columns={"image": [image] * 12}).commit()
    viewed = client(run.uri, tmp_path)
    answer = viewed.get("/image?row=0")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert viewed.get("/thumbnail?row=0").headers["content-type"] == "image/webp"
    assert "save it" in viewed.get("/row?row=s0").text


def test_elsewhere_every_request_needs_the_token(run: MadeGenerations, tmp_path: Path) -> None:
    viewed = client(run.uri, tmp_path, TOKEN)
    for path in ("/", "/image?row=0", "/static/viewer.js", "/?token=", "/?token=wrong", "/?token=a-secre"):
        answer = viewed.get(path)
        assert answer.status_code == 401
        assert "a-secret" not in answer.text
    first = viewed.get("/?q=a&token=a-secret")
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert html.unescape(re.findall(r'<a href="([^"]*)"', first.text)[0]) == "?q=a"  # without the token
    assert viewed.get("/?q=a").status_code == 200
    assert viewed.get("/image?row=0").status_code == 200


def test_who_follows_a_link_of_another_site_asks_again_from_here(
    run: MadeGenerations, tmp_path: Path
) -> None:
    viewed = client(run.uri, tmp_path, TOKEN)
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    answer = viewed.get('/?q="><script>', headers=headers)
    assert 'http-equiv="refresh"' in answer.text
    assert "<script>" not in answer.text
    assert viewed.get("/?q=x", headers={"sec-fetch-site": "same-origin"}).status_code == 401


def test_a_token_is_not_in_a_representation() -> None:
    assert "a-secret" not in repr(TOKEN)
