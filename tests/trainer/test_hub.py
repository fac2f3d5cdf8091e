"""The hub: what is here needs no network, and that there is none is found out in two seconds."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from drun.errors import ConfigError
from dtrain import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def folder(fetch: bool, repository: str = "owner/name") -> Path:
    return hub.folder(repository, ("a.safetensors", "a.bin"), fetch, ConfigError, "give a folder")


@pytest.mark.parametrize(
    ("text", "is_name"),
    [
        ("owner/name", True), ("stabilityai/sd-vae-ft-ema", True), ("name", False), ("../b", False), ("a/b/c", False),
        ("/owner/name", False), ("runs/model.pt", False), ("owner/na me", False), ("owner/", False), ("a/b\n", False),
    ],
)  # fmt: skip
def test_names(text: str, is_name: bool) -> None:
    assert hub.is_name(text) == is_name


def test_what_is_here_needs_no_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "reach", lambda: pytest.fail("the network was asked"))
    snapshot = cache / "models--owner--name" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "a.bin").write_bytes(b"weights")
    (cache / "models--owner--name" / "refs").mkdir()
    (cache / "models--owner--name" / "refs" / "main").write_text(COMMIT)
    for fetch in (True, False):
        assert folder(fetch) == snapshot


def test_what_a_file_names_is_not_fetched(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "reach", lambda: pytest.fail("the network was asked"))
    with pytest.raises(ConfigError, match=r"^'owner/name' is named by a file, .* not downloaded: give a folder$"):
        folder(fetch=False)
    with pytest.raises(ConfigError, match=r"^cannot get 'owner--x/name' from the Hugging Face hub: .*; give a folder$"):
        folder(fetch=False, repository="owner--x/name")  # no name to the hub


# ---- is it there? -----------------------------------------------------------------------------------------


@contextmanager
def listening() -> Iterator[str]:
    """The address of somebody who takes calls and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_silent_hub_is_given_up(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as endpoint:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        start = time.monotonic()
        with pytest.raises(ConfigError, match=r"hub: 127\.0\.0\.1 cannot be reached: .+; give a folder"):
            folder(fetch=True)
        assert time.monotonic() - start < 5


def test_a_name_that_is_never_resolved_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def resolve(*args: object, **options: object) -> list[object]:
        released.wait(20)
        raise OSError("released")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(constants, "ENDPOINT", "http://a.hub.invalid")
    start = time.monotonic()
    try:
        with pytest.raises(OSError, match=r"a\.hub\.invalid cannot be reached: no answer in 2 s"):
            hub.reach()
        assert time.monotonic() - start < 5
    finally:
        released.set()


def test_a_closed_door_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as endpoint:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    with pytest.raises(OSError, match=r"127\.0\.0\.1 cannot be reached: .*refused"):
        hub.reach()


def test_offline_mode_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="HF_HUB_OFFLINE forbids to ask it"):
        hub.reach()


# ---- fetching ---------------------------------------------------------------------------------------------

FILES = {"config.json": b'{"a": 1}', "a.bin": b"weights"}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download of two files asks for."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.wfile.write(self.answer())

    def answer(self) -> bytes:
        content = FILES.get(self.path.rpartition("/")[2]) if "/resolve/" in self.path else b""
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{self.path.rpartition("/")[2]}"')
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        return content or b""

    def log_message(self, *args: object) -> None:
        pass


def test_weights_and_configuration_are_fetched_once(tmp_path: Path) -> None:
    """From the endpoint that HF_ENDPOINT names; the second time nobody is asked."""
    code = """
import json
from drun.errors import ConfigError
from dtrain import hub
found = hub.folder("owner/name", ("a.safetensors", "a.bin"), True, ConfigError, "")
print(json.dumps({file.name: file.read_text() for file in found.iterdir()}))
"""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    for _ in range(2):
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert run.stderr == ""
        assert json.loads(run.stdout) == {name: content.decode() for name, content in FILES.items()}
        server.shutdown()
        server.server_close()
