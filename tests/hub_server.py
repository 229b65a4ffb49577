"""A server on this machine that takes and gives models as the Hugging Face hub does; it keeps what it is sent."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".onnx")  # sent and kept apart, as git LFS does


@dataclass
class ModelHub:
    """What the server holds and was asked.

    Attributes:
        commits: For each repository its commits, oldest first: id and files.
        blobs: Large files by their SHA-256.
        requests: Method and path of each request.
        bodies: Everything that was sent, to be searched.
        pages: Pages that the hub was asked to validate.
        token: What a writer must bring.
    """

    token: str = "hf_writer"
    address: str = ""
    commits: dict[str, list[tuple[str, dict[str, bytes]]]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)

    def files(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit of a revision, and its files."""
        commits = self.commits.get(repository, [])
        if revision == "main":
            return commits[-1] if commits else None
        return next((commit for commit in commits if commit[0] == revision), None)


@contextmanager
def model_hub() -> Iterator[ModelHub]:
    """The server, while it runs."""
    hub = ModelHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.given(body=False)

        def do_GET(self) -> None:
            self.given(body=True)

        def do_PUT(self) -> None:
            body = self.received()
            digest = self.path.rpartition("/")[2]
            if hashlib.sha256(body).hexdigest() != digest:
                return self.answer(422, {})
            hub.blobs[digest] = body
            return self.answer(200, {})

        def do_POST(self) -> None:  # noqa: PLR0911 - one return for each route
            body = self.received()
            path = unquote(urlsplit(self.path).path)
            if path == "/api/validate-yaml":
                return self.validated(json.loads(body)["content"])
            if self.headers.get("Authorization") != f"Bearer {hub.token}":
                return self.answer(401, {"error": "no"})
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                if name in hub.commits:
                    return self.answer(409, {"error": "exists", "url": f"{hub.address}/{name}"})
                hub.commits[name] = []
                return self.answer(200, {"url": f"{hub.address}/{name}"})
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/(.+)", path):
                files = [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                        "shouldIgnore": False,
                        "oid": None,
                    }
                    for file in json.loads(body)["files"]
                ]
                return self.answer(200, {"files": files})
            if path.endswith(".git/info/lfs/objects/batch"):
                objects = [self.offered(item) for item in json.loads(body)["objects"]]
                return self.answer(200, {"transfer": "basic", "objects": objects})
            if path == "/verify":
                return self.answer(200 if json.loads(body)["oid"] in hub.blobs else 404, {})
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/(.+)", path):
                return self.committed(found[1], [json.loads(line) for line in body.splitlines()])
            return self.answer(404, {"error": path})

        def offered(self, item: dict) -> dict:
            actions = {
                "upload": {"href": f"{hub.address}/upload/{item['oid']}"},
                "verify": {"href": f"{hub.address}/verify"},
            }
            known = item["oid"] in hub.blobs
            return {"oid": item["oid"], "size": item["size"], **({} if known else {"actions": actions})}

        def validated(self, page: str) -> None:
            from huggingface_hub import ModelCard  # it reads its settings when it is imported

            hub.pages.append(page)
            data = ModelCard(page, ignore_metadata_errors=False).data.to_dict()
            errors = [{"message": f"no {name}"} for name in ("license", "library_name") if name not in data]
            self.answer(400 if errors else 200, {"errors": errors, "warnings": []})

        def committed(self, name: str, lines: list[dict]) -> None:
            files = dict(hub.commits[name][-1][1]) if hub.commits[name] else {}
            for line in lines:
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = hub.blobs[value["oid"]]
            commit = hashlib.sha1(
                repr(sorted(files.items())).encode() + str(len(hub.commits[name])).encode()
            ).hexdigest()
            hub.commits[name].append((commit, files))
            self.answer(
                200, {"success": True, "commitOid": commit, "commitUrl": f"{hub.address}/{name}/commit/{commit}"}
            )

        def given(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
                held = hub.files(found[1], found[2] or "main")
                if held is None:
                    return self.missing(found[1])
                siblings = [{"rfilename": name} for name in held[1]]
                return self.answer(200, {"id": found[1], "sha": held[0], "siblings": siblings})
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/(.+)", path):
                held = hub.files(found[1], found[2])
                return (
                    self.missing(found[1])
                    if held is None
                    else self.answer(200, [_entry(*item) for item in held[1].items()])
                )
            if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                held = hub.files(found[1], found[2])
                if held is None or found[3] not in held[1]:
                    return self.missing(found[1])
                return self.file(*held, found[3], body=body)
            return self.answer(404, {"error": path})

        def file(self, commit: str, files: dict[str, bytes], name: str, *, body: bool) -> None:
            content = files[name]
            self.send_response(200)
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{_etag(name, content)}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def missing(self, name: str) -> None:
            code = "RevisionNotFound" if name in hub.commits else "RepoNotFound"
            self.answer(404, {"error": code}, {"X-Error-Code": code})

        def received(self) -> bytes:
            hub.requests.append(f"{self.command} {unquote(urlsplit(self.path).path)}")
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                body = b"".join(iter(self.chunk, b""))
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            hub.bodies.append(body)
            return body

        def chunk(self) -> bytes:
            size = int(self.rfile.readline().split(b";")[0], 16)
            data = self.rfile.read(size)
            self.rfile.readline()
            return data

        def answer(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            for name, text in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _etag(name: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if name.endswith(LARGE) else hashlib.sha1(content).hexdigest()


def _entry(name: str, content: bytes) -> dict[str, object]:
    entry = {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
    large = {"oid": _etag(name, content), "size": len(content), "pointerSize": 130}
    return {**entry, **({"lfs": large} if name.endswith(LARGE) else {})}
