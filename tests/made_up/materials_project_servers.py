"""Stand-ins of the two services of the Materials Project, for the real client, on this machine.

Run as a process of its own, by ``start`` or ``python -m tests.made_up.materials_project_servers
--help``: the client's S3 library holds the interpreter's lock while it waits, so servers in the
same process would never answer. The process ends with its parent: it reads its standard input until
that is closed.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.made_up import materials_project as data

BUCKET, PREFIX = "materialsproject-parsed", "core/electronic-structure/total-dos/"
KEY = "0123456789abcdef0123456789abcdef"
ROOT = Path(__file__).parents[2]
DATABASE = "2026.04.13"
STORAGE = {
    "AWS_ALLOW_HTTP": "true",
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_CONDITIONAL_PUT": "etag",
}


@dataclass(frozen=True)
class Servers:
    """A running pair of servers: their addresses."""

    rest: str
    s3: str

    @property
    def environment(self) -> dict[str, str]:
        """Sends the unmodified client here and nowhere else."""
        return {
            "MP_API_KEY": KEY,
            "MP_API_ENDPOINT": self.rest,
            "AWS_ENDPOINT_URL": self.s3,
            "AWS_ALLOW_HTTP": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def control(self, **wish: Any) -> dict[str, Any]:
        """Set faults (``rest``, ``s3``), read and ``reset`` what was requested."""
        request = urllib.request.Request(self.rest, json.dumps(wish).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            seen: dict[str, Any] = json.load(answer)
        return seen


def start(*arguments: str) -> tuple[subprocess.Popen[str], Servers]:
    """Start servers that end when this process does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.made_up.materials_project_servers", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the servers did not start (exit code {process.wait()})"
    return process, Servers(**json.loads(line))


def reset(connection: socket.socket) -> None:
    """Close a connection so that the other end sees a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RDWR)


class Rest:
    """The REST service: heartbeat, summary listing, electronic structure."""

    def __init__(self, documents: list[dict[str, Any]]) -> None:
        self.documents = documents
        self.database = DATABASE
        self.faults: list[dict[str, Any]] = []
        self.log: list[tuple[float, str, dict[str, str]]] = []

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        if path not in ("/materials/summary/", "/materials/electronic_structure/"):
            return 404, {"detail": "Not Found"}
        if len(query.get("elements", "")) > 60 or int(query.get("_limit", 100)) > 1000:
            return 422, {"detail": "too long"}
        found = [d for d in self.documents if not d["deprecated"]]
        if hidden := query.get("batch_id_not_eq"):
            found = [d for d in found if d["batch_id"] != hidden]
        if ids := query.get("material_ids"):
            found = [d for d in found if d["material_id"] in map(_named, ids.split(","))]
        if systems := query.get("chemsys"):
            found = [d for d in found if d["chemsys"] in set(systems.split(","))]
        if elements := query.get("elements"):
            found = [d for d in found if set(elements.split(",")) <= set(d["elements"])]
        if props := query.get("has_props"):
            found = [d for d in found if set(props.split(",")) <= set(d["has_props"])]
        skip, limit = int(query.get("_skip", 0)), int(query.get("_limit", 100))
        fields = [name.split(".")[0] for name in query["_fields"].split(",")]
        page = [{name: d[name] for name in fields} for d in found[skip : skip + limit]]
        return 200, {"data": page, "meta": {"total_doc": len(found), "api_version": "0.87.3"}}


def _named(text: str) -> str:
    from emmet.core.mpid import AlphaID

    return str(AlphaID(text.split("-", 1)[-1], prefix="mp", padlen=8))


def rest_handler(rest: Rest, control: Any) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: Any) -> None:
            pass

        def reply(self, code: int, body: Any, fault: dict[str, Any] | None = None) -> None:
            fault, raw = fault or {}, json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            for name, value in fault.get("headers", {}).items():
                self.send_header(name, value)
            self.end_headers()
            if cut := fault.get("cut"):
                self.wfile.write(raw[:cut])
                self.wfile.flush()
                self.end()
            else:
                self.wfile.write(raw)

        def end(self) -> None:
            self.close_connection = True
            reset(self.connection)

        def do_POST(self) -> None:
            wish = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.reply(200, control(wish))

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {k: v[-1] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
            if parts.path.strip("/") == "heartbeat":
                versions = {"version": "0.87.3", "db_version": rest.database}
                return self.reply(200, versions | {"access_controlled_batch_ids": []})
            rest.log.append((time.monotonic(), parts.path, query))
            fault = rest.faults[0] if rest.faults else {}
            if rest.faults and not fault.get("always"):
                rest.faults.pop(0)
            if fault.get("drop"):
                return self.end()
            if "status" in fault:
                return self.reply(fault["status"], {"detail": "injected"}, fault)
            if self.headers.get("x-api-key") != KEY:
                return self.reply(403, {"message": "Forbidden"})
            code, body = rest.answer(parts.path, query)
            if fault.get("short"):
                body["data"] = body["data"][:-1]
            return self.reply(code, body, fault)

    return Handler


class Bucket:
    """moto's S3 behind a counter and faults."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self.app = DomainDispatcherApplication(create_backend_app)
        self.fault: dict[str, Any] = {}
        self.log: list[str] = []
        self.sent = 0
        self.lock = threading.Lock()

    def __call__(self, environ: Any, start_response: Any) -> Any:
        fault = self._fault(environ)
        if "status" in fault:
            body = b"<Error><Code>SlowDown</Code><Message>injected</Message></Error>"
            start_response(fault["status"], [("Content-Length", str(len(body)))])
            return [body]
        if fault:
            self._break(environ, fault.get("cut", 0.0))
            start_response("200 OK", [])
            return [b""]
        chunks = [bytes(chunk) for chunk in self.app(environ, start_response)]
        with self.lock:
            self.sent += sum(map(len, chunks))
        return chunks

    def _fault(self, environ: Any) -> dict[str, Any]:
        with self.lock:
            self.log.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
            wish = self.fault
            if environ["REQUEST_METHOD"] != "GET" or wish.get("match", "//") not in self.log[-1]:
                return {}
            for counter, hits in (("skip", False), ("times", True)):
                if wish.get(counter, 0) > 0:
                    wish[counter] -= 1
                    return wish if hits else {}
            return {}

    def _break(self, environ: Any, share: float) -> None:
        """True headers, a part of the body, and a reset."""
        connection = environ["werkzeug.socket"]
        if share:
            head: list[Any] = []
            body = b"".join(self.app(environ, lambda *a, **_: head.extend(a[:2])))
            lines = [f"HTTP/1.1 {head[0]}", *(f"{k}: {v}" for k, v in head[1]), "", ""]
            connection.sendall("\r\n".join(lines).encode() + body[: int(len(body) * share)])
            time.sleep(0.05)
        reset(connection)

    def serve(self) -> str:
        from moto.server import MotoRequestHandler
        from werkzeug.serving import make_server

        class Quiet(MotoRequestHandler):
            protocol_version = "HTTP/1.1"

            def log(self, *_: Any, **__: Any) -> None:
                pass

        server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=Quiet)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"


def fill(url: str, made: list[data.Material], files: int) -> None:
    """Make the public bucket and write the table in so many commits."""
    import boto3

    login = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **login)
    s3.create_bucket(Bucket=BUCKET)
    # the client reads without signing, which moto refuses unless the bucket is public
    objects = [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"]
    actions = ["s3:GetObject", "s3:ListBucket"]
    statement = {"Effect": "Allow", "Principal": "*", "Action": actions, "Resource": objects}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))
    size = -(-len(made) // files)
    for i in range(0, len(made), size):
        commit(url, made[i : i + size])


def commit(url: str, made: list[data.Material]) -> None:
    """Append to the table: a new version, with one file per run type."""
    from deltalake import write_deltalake

    write_deltalake(
        f"s3://{BUCKET}/{PREFIX}",
        data.table(made),
        mode="append",
        partition_by=["run_type"],
        storage_options=STORAGE | {"AWS_ENDPOINT_URL": url},
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--materials", type=int, default=60)
    options.add_argument("--energies", type=int, default=301)
    options.add_argument("--files", type=int, default=3)
    options.add_argument("--odd", action="store_true")
    chosen = options.parse_args()
    made = data.materials(chosen.materials, chosen.energies)
    made += data.odd_materials(chosen.energies).values() if chosen.odd else []
    bucket, rest = Bucket(), Rest([m.document() for m in made])
    url = bucket.serve()
    fill(url, made, chosen.files)

    def control(wish: dict[str, Any]) -> dict[str, Any]:
        """Set faults and read what was requested since the last reset."""
        rest.faults = wish.get("rest", rest.faults)
        rest.database = wish.get("database", rest.database)
        bucket.fault = wish.get("s3", bucket.fault)
        if wish.get("commit"):  # the table goes on to another version
            commit(url, [replace(m, number=m.number + 9000) for m in made[:2]])
        seen = {"rest": list(rest.log), "s3": list(bucket.log), "sent": bucket.sent}
        if wish.get("reset"):
            rest.log.clear()
            bucket.log.clear()
            bucket.sent = 0
        return seen

    server = ThreadingHTTPServer(("127.0.0.1", 0), rest_handler(rest, control))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"rest": f"http://127.0.0.1:{server.server_port}/", "s3": url}), flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
