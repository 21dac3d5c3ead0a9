"""The part of the hub's HTTP API that an upload uses, on this machine: its answers as of huggingface_hub 2.4.

Files of `data/` go by Git LFS, others within the commit. The transfer by Xet is not here.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest

NAME = "owner/name"


class FakeHub(ThreadingHTTPServer):
    """Repositories of one owner.

    Attributes:
        files: What the branch has, by path.
        puts: Contents that were sent by LFS, in order, by digest.
        commits: Paths of each commit.
        private: Whether the repository is; None while there is none.
        branches: Those that there are.
        max_puts: How many it takes before it refuses all others.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.commits: list[list[str]] = []
        self.private: bool | None = None
        self.branches = {"main"}
        self.tokens: set[str | None] = set()
        self.max_puts = 1000

    def entry(self, path: str) -> dict[str, Any]:
        data = self.files[path]
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": "0" * 40}
        if path.startswith("data/"):
            digest = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 130}
        return entry


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def _answer(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(data)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def do_GET(self) -> None:
        hub, path = self.server, urlparse(self.path).path
        if f"/api/datasets/{NAME}/tree/" in path:
            self._answer([hub.entry(name) for name in sorted(hub.files)])
        else:
            self._answer({"id": NAME, "private": hub.private, "sha": "0" * 40, "siblings": []})

    def do_PUT(self) -> None:
        hub, body = self.server, self._body()
        if len(hub.puts) >= hub.max_puts:
            return self._answer({"error": "no"}, 403)
        digest = self.path.rpartition("/")[2]
        assert hashlib.sha256(body).hexdigest() == digest
        hub.objects[digest] = body
        hub.puts.append(digest)
        return self._answer({})

    def do_POST(self) -> None:
        hub, body, path = self.server, self._body(), urlparse(self.path).path
        hub.tokens.add(self.headers.get("Authorization"))
        if path == "/api/repos/create":
            if hub.private is not None:
                return self._answer({"error": "exists", "url": f"{hub.url}/datasets/{NAME}"}, 409)
            asked = json.loads(body)
            hub.private = asked.get("private") is True or asked.get("visibility") == "private"
            return self._answer({"url": f"{hub.url}/datasets/{NAME}"})
        if path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if "/branch/" in path:
            hub.branches.add(path.rpartition("/")[2])
            return self._answer({})
        if "/paths-info/" in path:
            wanted = parse_qs(body.decode())["paths"]
            return self._answer([hub.entry(name) for name in wanted if name in hub.files])
        if "/preupload/" in path:
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = {name: "lfs" if name.startswith("data/") else "regular" for name in names}
            files = [{"path": n, "uploadMode": mode, "shouldIgnore": False} for n, mode in modes.items()]
            return self._answer({"files": files})
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for item in objects:
                if item["oid"] not in hub.objects:
                    item["actions"] = {"upload": {"href": f"{hub.url}/lfs/{item['oid']}"}}
            return self._answer({"transfer": "basic", "objects": objects})
        assert f"/api/datasets/{NAME}/commit/" in path
        lines = [json.loads(line) for line in body.splitlines()]
        added = [line["value"] for line in lines if line["key"] != "header"]
        for value in added:
            is_lfs = "oid" in value
            data = hub.objects[value["oid"]] if is_lfs else base64.b64decode(value["content"])
            hub.files[value["path"]] = data
        hub.commits.append([value["path"] for value in added])
        return self._answer({"commitUrl": f"{hub.url}/datasets/{NAME}/commit/0", "commitOid": "0" * 40})

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that this process's `huggingface_hub` talks to, with a token."""
    with FakeHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield hub
        hub.shutdown()
        thread.join()
