"""A small OpenAI-compatible server on loopback that misbehaves on demand, and counts what it is asked for."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

MODEL = "toy"


@dataclass(frozen=True)
class Reply:
    """What the server sends; ``stall`` keeps it waiting until it is shut down, ``hang_up`` closes the connection."""

    status: int = 200
    body: Any = None
    raw: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    stall: bool = False
    hang_up: bool = False


Behaviour: TypeAlias = Callable[[dict[str, Any], int], Reply | None]
"""Of the body and the number of a request, from 0; None for a good answer."""


def text_for(prompt: str, seed: int) -> str:
    """What the model says to "a + b = ?" with a seed: the sum, or one too many, about half of the time each."""
    digest = hashlib.blake2b(f"{prompt}\0{seed}".encode(), digest_size=1).digest()[0]
    first, _, second, *_ = prompt.split()
    return str(int(first) + int(second) + digest % 2)


class Server:
    """A running server.

    Attributes:
        url: where its API is.
        behaviour: asked first for every request.
        requests: bodies that came, in order.
        headers: of each of them.
        completions: choices that were sent as good answers.
        busiest: the largest number of requests at a time.
        models: what it says of its models.
    """

    def __init__(self) -> None:
        self.behaviour: Behaviour = lambda body, number: None
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.completions = 0
        self.busiest = 0
        self.models = Reply(body={"object": "list", "data": [{"id": MODEL, "owned_by": "somebody"}]})
        self.lock = threading.Lock()
        self.counted = threading.Condition(self.lock)
        self.closing = threading.Event()
        self._busy = 0
        self._http = _Listener(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        if self.closing.is_set():
            return
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def wait_for(self, completions: int) -> None:
        """Wait until it has sent so many."""
        with self.counted:
            assert self.counted.wait_for(lambda: self.completions >= completions, timeout=60), self.completions

    def reply(self, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        with self.lock:
            number = len(self.requests)
            self.requests.append(body)
            self.headers.append(headers)
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
        try:
            reply = self.behaviour(body, number)
            if reply is not None and reply.stall:
                self.closing.wait()
            if reply is not None:
                return reply
            with self.counted:
                self.completions += body["n"]
                self.counted.notify_all()
            return Reply(body=answer(body))
        finally:
            with self.lock:
                self._busy -= 1


def answer(body: dict[str, Any], *, n: int | None = None, token_ids: bool | None = None) -> dict[str, Any]:
    """A good answer; with fewer choices than asked for, or with token ids, where that is said."""
    chat = "messages" in body
    prompt = body["messages"][-1]["content"] if chat else body["prompt"]
    texts = [text_for(prompt, body["seed"] + i) for i in range(body["n"] if n is None else n)]
    choices: list[dict[str, Any]] = []
    for index, text in enumerate(texts):
        said: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choices.append({"index": index, "finish_reason": "stop", **said})
        if body.get("return_token_ids") if token_ids is None else token_ids:
            choices[-1]["token_ids"] = [ord(character) for character in text]
    return {"object": "x", "choices": choices, "usage": {"completion_tokens": sum(map(len, texts))}}


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512  # with the usual 5, connections that come at once are reset on a busy machine


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(server.models)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(server.reply(body, dict(self.headers.items())))

        def _send(self, reply: Reply) -> None:
            if reply.hang_up or server.closing.is_set():
                self.close_connection = True
                return
            raw = reply.raw if reply.raw is not None else json.dumps(reply.body).encode() if reply.body else b""
            try:
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(raw)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)
            except OSError:  # whoever asked has gone
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
