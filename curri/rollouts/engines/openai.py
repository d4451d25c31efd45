"""Responses from any server that speaks the OpenAI protocol, over HTTP."""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import ipaddress
import os
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING, Any, NamedTuple

from curri.errors import EngineError, InvalidParameter, MissingExtra, unknown_name
from curri.rollouts.engines.openai_reply import BadReply, document, error_message, responses, shown
from curri.rollouts.engines.prompt_form import NO_TEXT, Api, check_api, messages, plain_text
from curri.types import Answered, Generated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from curri.types import Request, Sampling

_LARGEST_REPLY = 1 << 28
"""Bytes of a reply that are read at most."""

_CHECK_SECONDS = 10.0
_LONGEST_PAUSE = 30.0
_TRIED_AGAIN = frozenset({408, 409, 425, 429, *range(500, 600)})
_REFUSES_ALL = frozenset({401, 403, 404, 405})
_FAULTS_IN_A_ROW = 8
"""So many requests in a row that a server fails, each after all its retries, and it is given up."""

_LIMIT, _NEWER_LIMIT = "max_tokens", "max_completion_tokens"


class _Outcome(NamedTuple):
    """What became of a request, and whether the server is to blame for a failure."""

    answered: Answered
    fault: bool


class _Failed(Exception):
    """Why a request gets no more responses."""

    def __init__(self, message: str, *, fault: bool) -> None:
        super().__init__(message)
        self.fault = fault


class OpenAIEngine:
    """Asks a server for chat completions, or for completions of plain text.

    As many requests as ``concurrency`` and ``batch`` allow are under way at a time. One that meets a busy or failing
    server (status 408, 409, 425, 429, 5xx), a lost connection, a reply that makes no sense or none within ``timeout``
    seconds is sent again, up to ``retries`` times, after pauses that double (or as long as the server's
    ``Retry-After`` says), and all of it together takes at most ``deadline`` seconds. When 8 requests in a row have
    failed that way, the server is given up. A server that gives fewer choices than asked for is asked for the rest;
    one that refuses to give several (status 400 or 422) is asked for one at a time.

    The key comes from the environment only. It is sent over https or to this machine; over plain http to another one
    only where ``key_variable`` names it. It is kept nowhere.

    Args:
        model: what the server calls the model.
        url: where its API is, such as "http://localhost:8000/v1".
        api: "chat" or "completions".
        weight_version: of the model's weights, where it is known.
        label: what stored rollouts call the model; ``model`` if None.
        concurrency: requests under way at a time at most.
        batch: responses under way at a time at most, unless a single request is for more.
        timeout: seconds to wait for one reply.
        deadline: seconds for a request in all.
        retries: how often a request is sent again, for each reply that is awaited.
        backoff: seconds of the first pause.
        key_variable: the environment variable that holds the key; ``OPENAI_API_KEY`` if None.

    Raises:
        InvalidParameter: a value is outside its range, or the URL cannot be one.
    """

    name = "openai"

    def __init__(
        self,
        model: str,
        url: str,
        *,
        api: Api = "chat",
        weight_version: str = "",
        label: str | None = None,
        concurrency: int = 32,
        batch: int = 1024,
        timeout: float = 300.0,
        deadline: float = 900.0,
        retries: int = 6,
        backoff: float = 0.5,
        key_variable: str | None = None,
    ) -> None:
        for name, value, low in (
            ("concurrency", concurrency, 1),
            ("batch", batch, 1),
            ("timeout", timeout, 1e-3),
            ("deadline", deadline, 1e-3),
            ("retries", retries, 0),
            ("backoff", backoff, 0.0),
        ):
            if not low <= value < float("inf"):
                raise InvalidParameter(f"`{name}` of `OpenAIEngine` must be a number >= {low:g}; got {value!r}")
        check_api(api)
        self.url = _checked_url(url)
        self.model = model if label is None else label
        self.weight_version = weight_version
        self.settings: Mapping[str, Any] = {"api": api}
        self.api = api
        self.concurrency, self.batch = int(concurrency), int(batch)
        self.timeout, self.deadline = float(timeout), float(deadline)
        self.retries, self.backoff = int(retries), float(backoff)
        self._served = model
        self._key_variable = key_variable
        self._token_ids = False  # whether the server offers `return_token_ids`
        self.limit_field = _LIMIT  # or what newer servers call it
        self.most = 1 << 30  # choices of one reply

    def __repr__(self) -> str:
        return f"OpenAIEngine({self._served!r}, {self.url!r}, api={self.api!r})"

    # ---- before the first request -------------------------------------------------------------------------------

    def check(self) -> None:
        """Ask the server for its models: whether it is there, lets us in, and has this one.

        Raises:
            EngineError: it does not.
            UnknownName: it has other models.
            MissingExtra: httpx2 is not installed.
        """
        http = _http()
        try:
            with http.Client(headers=self._headers(), timeout=_CHECK_SECONDS) as client:
                reply = client.get(f"{self.url}/models")
        except http.TimeoutException:
            problem = f"the server at {self.url} does not answer within {_CHECK_SECONDS:g} s"
        except http.RequestError as error:
            problem = f"no server can be reached at {self.url}: {self._shown(error) or type(error).__name__}"
        else:
            self._look_at_models(reply.status_code, reply.content)
            return
        raise EngineError(problem, hint="is it running, and is --url right, such as http://localhost:8000/v1?")

    def _look_at_models(self, status: int, body: bytes) -> None:
        if status in (401, 403):
            raise self._refused(status, body)
        if status != 200:  # not every server can list its models
            return
        try:
            listed = document(body).get("data")
        except BadReply as error:
            message = f"{self.url} is not the address of an OpenAI-compatible API: {self._shown(error)}"
            raise EngineError(message, hint="it often ends in /v1, such as http://localhost:8000/v1") from None
        cards = [card for card in listed if isinstance(card, dict)] if isinstance(listed, list) else []
        names = [str(card.get("id")) for card in cards]
        if names and self._served not in names:
            raise unknown_name(f"model at {self.url}", self._served, [shown(name) for name in names])
        mine = [card for card in cards if str(card.get("id")) == self._served]
        self._token_ids = any(card.get("owned_by") == "vllm" for card in mine)

    def _refused(self, status: int, body: bytes) -> EngineError:
        said = self._shown(error_message(body))
        message = f"{self.url} answers with status {status}" + (f": {said}" if said else "")
        if status in (401, 403):
            have = "the one in" if self._key() else "put it into"
            return EngineError(message, hint=f"it wants an API key; {have} {self._variable} is what is sent")
        return EngineError(message, hint="is --url right (it often ends in /v1), is the model's name, and is --api?")

    def close(self) -> None:
        """It holds nothing between calls of ``generate``."""

    # ---- the key ------------------------------------------------------------------------------------------------

    @property
    def _variable(self) -> str:
        return self._key_variable or "OPENAI_API_KEY"

    def _key(self) -> str:
        """The key, read when it is needed."""
        if self._key_variable is None and not _private(self.url):
            return ""
        return os.environ.get(self._variable, "").strip()

    def _headers(self) -> dict[str, str]:
        key = self._key()
        if not key.isascii() or not key.isprintable():
            raise EngineError(f"the key in {self._variable} has characters that no key has")
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _shown(self, text: object) -> str:
        return shown(text, self._key())

    # ---- generating ---------------------------------------------------------------------------------------------

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Answered]:
        """Answer requests as replies come in; see :class:`curri.types.Engine`.

        Raises:
            EngineError: the server refuses everything, or fails again and again.
            InvalidInput: a system message where there is no chat.
        """
        check_api(self.api, sampling)
        http = _http()
        from anyio.from_thread import start_blocking_portal

        faults = 0
        with start_blocking_portal() as portal:
            limits = http.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
            client = http.AsyncClient(headers=self._headers(), timeout=self.timeout, limits=limits)
            running: dict[Future[_Outcome], int] = {}

            def start(request: Request) -> None:
                running[portal.start_task_soon(self._answer, client, request, sampling)] = request.n

            try:
                for outcome in _as_they_end(requests, start, running, self.concurrency, self.batch):
                    faults = faults + 1 if outcome.fault else 0
                    yield outcome.answered
                    if faults >= _FAULTS_IN_A_ROW:
                        message = f"{faults} requests in a row failed, the last one so: {outcome.answered.failure}"
                        raise EngineError(message, hint="look after the server, then run the same command again")
            finally:
                for future in running:
                    future.cancel()
                wait(running)
                portal.call(client.aclose)

    async def _answer(self, client: Any, request: Request, sampling: Sampling) -> _Outcome:
        import anyio

        if self.api == "completions" and plain_text(request.prompt) is None:
            return _Outcome(Answered(request, [], NO_TEXT), fault=False)
        exchange = _Exchange(self, client, request, sampling)
        failure, fault = "", False
        try:
            with anyio.fail_after(self.deadline):
                await exchange.run()
        except TimeoutError:
            trouble = f" ({exchange.trouble})" if exchange.trouble else ""
            failure, fault = f"no answer within {self.deadline:g} s{trouble}", True
        except _Failed as error:
            failure, fault = str(error), error.fault
        return _Outcome(Answered(request, exchange.responses, failure), fault=fault and not exchange.responses)

    def body(self, request: Request, sampling: Sampling, first: int, n: int) -> dict[str, Any]:
        """What is sent for n responses of a request from the one numbered ``first`` on."""
        body: dict[str, Any] = {
            **sampling.other,
            "model": self._served,
            "n": n,
            "seed": request.seed + first,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self.limit_field: sampling.max_tokens,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if self.api == "chat":
            body["messages"] = messages(request.prompt, sampling.system)
        else:
            body["prompt"] = plain_text(request.prompt)
        if sampling.logprobs:
            body["logprobs"] = True if self.api == "chat" else 1
        if self._token_ids:
            body["return_token_ids"] = True
        return body

    @property
    def path(self) -> str:
        """Where requests go."""
        return f"{self.url}/chat/completions" if self.api == "chat" else f"{self.url}/completions"


class _Exchange:
    """One request with all that it takes to have it answered.

    Attributes:
        responses: those that came.
        trouble: what went wrong last.
    """

    def __init__(self, engine: OpenAIEngine, client: Any, request: Request, sampling: Sampling) -> None:
        self._engine = engine
        self._client = client
        self._request = request
        self._sampling = sampling
        self._single = False  # whether it is tried one response at a time
        self.responses: list[Generated] = []
        self.trouble = ""

    async def run(self) -> None:
        """Ask until all responses are there.

        Raises:
            _Failed: no more can be had.
            EngineError: the server refuses everything.
        """
        import anyio

        attempts = 0
        while len(self.responses) < self._request.n:
            pause = await self._once()
            if pause is None:
                attempts = 0
                continue
            if attempts >= self._engine.retries:
                tried = f" ({attempts + 1} attempts)" if attempts else ""
                raise _Failed(self.trouble + tried, fault=True)
            pause = max(pause, min(self._engine.backoff * 2.0**attempts, _LONGEST_PAUSE))
            attempts += 1
            if pause > self._engine.deadline:
                raise _Failed(f"{self.trouble}, and wants us to wait {pause:g} s", fault=True)
            await anyio.sleep(pause)

    async def _once(self) -> float | None:
        """Ask once; None if that gave responses, else the seconds that the server wants us to wait."""
        http = _http()
        engine, first = self._engine, len(self.responses)
        n = 1 if self._single else min(self._request.n - first, engine.most)
        limit_field = engine.limit_field
        try:
            status, headers, content = await self._post(engine.body(self._request, self._sampling, first, n))
        except http.TimeoutException:
            self.trouble = f"no answer within {engine.timeout:g} s"
            return 0.0
        except http.RequestError as error:
            self.trouble = f"the connection failed: {engine._shown(error) or type(error).__name__}"  # noqa: SLF001  same module
            return 0.0
        if status == 200:
            return self._taken(content)
        said = engine._shown(error_message(content))  # noqa: SLF001  same module
        self.trouble = f"the server answers with status {status}" + (f": {said}" if said else "")
        if status in _REFUSES_ALL:
            raise engine._refused(status, content)  # noqa: SLF001  same module
        if status in _TRIED_AGAIN:
            return _retry_after(headers.get("retry-after"))
        if status == 400 and limit_field == _LIMIT and _NEWER_LIMIT in said:
            engine.limit_field = _NEWER_LIMIT
            return None
        if status in (400, 422) and n > 1:
            self._single = True
            return None
        raise _Failed(self.trouble, fault=False)

    async def _post(self, body: dict[str, Any]) -> tuple[int, Any, bytes]:
        """Status, headers and content of the reply."""
        content = bytearray()
        async with self._client.stream("POST", self._engine.path, json=body) as reply:
            async for part in reply.aiter_bytes():
                content += part
                if len(content) > _LARGEST_REPLY:
                    raise _Failed(f"the reply is longer than {_LARGEST_REPLY:,} bytes", fault=False)
            return reply.status_code, reply.headers, bytes(content)

    def _taken(self, content: bytes) -> float | None:
        try:
            self.responses += responses(content, asked=self._request.n - len(self.responses))
        except BadReply as error:
            self.trouble = self._engine._shown(error)  # noqa: SLF001  same module
            return 0.0
        if self._single:
            self._engine.most = 1
        return None


def _as_they_end(
    requests: Iterable[Request],
    start: Callable[[Request], None],
    running: dict[Future[_Outcome], int],
    most: int,
    responses: int,
) -> Iterator[_Outcome]:
    """Outcomes of requests as they end; those under way are in ``running``, with how many responses they are for.

    The next request is taken when there is room for one like the last.
    """
    for request in requests:
        start(request)
        while running and (len(running) >= most or sum(running.values()) + request.n > responses):
            yield from _ended(running)
    while running:
        yield from _ended(running)


def _ended(running: dict[Future[_Outcome], int]) -> Iterator[_Outcome]:
    """Those that have ended, at least one; what ended well comes before an error is raised."""
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        del running[future]
    yield from (future.result() for future in done if future.exception() is None)
    for future in done:
        future.result()


def _http() -> Any:
    try:
        import httpx2
    except ImportError as error:
        message = f"the engine `openai` needs httpx2, which cannot be imported ({error})"
        raise MissingExtra(message, hint="pip install 'curri[openai]'") from error
    return httpx2


def _checked_url(url: str) -> str:
    """A URL without a slash at its end.

    Raises:
        InvalidParameter: it is none that can be used, or holds a secret.
    """
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = None, None
    if parts is None or parts.scheme not in ("http", "https") or not host or not url.isprintable():
        raise InvalidParameter(f"`url` must be like http://localhost:8000/v1; got {shown(url)!r}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidParameter(
            "`url` must have no user, password, query or fragment: secrets in it would be stored and shown",
            hint="put an API key into OPENAI_API_KEY",
        )
    return url.rstrip("/")


def _private(url: str) -> bool:
    """Whether what is sent can be read by nobody on the way: over https, or to this machine."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    host = parts.hostname or ""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return True
    return parts.scheme == "https" or host == "localhost"


def _retry_after(value: str | None) -> float:
    """Seconds that a header ``Retry-After`` asks for: a number, or a date.

    >>> _retry_after("2.5"), _retry_after(None), _retry_after("soon"), _retry_after("Wed, 21 Oct 2015 07:28:00 GMT")
    (2.5, 0.0, 0.0, 0.0)
    """
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            until = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return 0.0
        until = until if until.tzinfo else until.replace(tzinfo=dt.UTC)
        seconds = (until - dt.datetime.now(dt.UTC)).total_seconds()
    return seconds if 0.0 <= seconds < float("inf") else 0.0
