"""The engine for OpenAI-compatible servers, against a real one on loopback that misbehaves."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curri.errors import EngineError, InvalidInput, InvalidParameter, UnknownName
from curri.rollouts import OpenAIEngine
from curri.rollouts.engines.openai_reply import BadReply, responses, shown
from curri.types import Prompt, Request, Sampling
from tests.rollouts.server import Reply, Server, answer, text_for

if TYPE_CHECKING:
    from curri.types import Answered

pytest.importorskip("httpx2")

KEY = "sk-secret-1234"


def prompt(i: int = 1) -> Prompt:
    return Prompt(i, f"{i} + {i} = ?", str(2 * i), "sums", {})


def engine(server: Server, **options: Any) -> OpenAIEngine:
    return OpenAIEngine("toy", server.url, **{"backoff": 0.001, "retries": 3, **options})


def ask(made: OpenAIEngine, *requests: Request, **sampling: Any) -> list[Answered]:
    found = list(made.generate(iter(requests), Sampling(**sampling)))
    return sorted(found, key=lambda answered: answered.request.prompt.prompt_id)


def texts(answered: Answered) -> list[str]:
    return [response.text for response in answered.responses]


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_it_sends_what_was_asked_and_reads_what_came(server: Server, api: Any) -> None:
    made = engine(server, api=api)
    made.check()
    (found,) = ask(
        made, Request(prompt(3), n=4, seed=10), temperature=0.5, top_p=0.9, max_tokens=7, stop=("\n",),
        other={"top_k": 5},
    )  # fmt: skip
    assert texts(found) == [text_for("3 + 3 = ?", 10 + i) for i in range(4)]
    assert sum(response.tokens or 0 for response in found.responses) == sum(map(len, texts(found)))
    (body,) = server.requests
    said = body.pop("messages", None) or body.pop("prompt")
    assert said == ([{"role": "user", "content": "3 + 3 = ?"}] if api == "chat" else "3 + 3 = ?")
    assert body == {
        "model": "toy", "n": 4, "seed": 10, "temperature": 0.5, "top_p": 0.9, "max_tokens": 7, "stop": ["\n"],
        "top_k": 5,
    }  # fmt: skip


def test_a_system_message_goes_before_prompts_without_one(server: Server) -> None:
    own = Prompt(2, [{"role": "system", "content": "mine"}, {"role": "user", "content": "2 + 2 = ?"}], "4", "a", {})
    ask(engine(server, concurrency=1), Request(prompt(1), 1, 0), Request(own, 1, 0), system="brief")
    assert [[m["content"] for m in body["messages"]] for body in server.requests] == [
        ["brief", "1 + 1 = ?"],
        ["mine", "2 + 2 = ?"],
    ]
    with pytest.raises(InvalidInput, match="needs a chat"):
        ask(engine(server, api="completions"), Request(prompt(), 1, 0), system="brief")


def test_a_chat_cannot_be_completed(server: Server) -> None:
    chat = Prompt(1, [{"role": "user", "content": "1 + 1 = ?"}], "2", "a", {})
    (found,) = ask(engine(server, api="completions"), Request(chat, 2, 0))
    assert (len(found.responses), "--api chat" in found.failure) == (0, True)
    assert server.requests == []


@pytest.mark.parametrize("most", [1, 3])
def test_a_server_that_gives_fewer_is_asked_for_the_rest_with_the_seeds_they_would_have_had(
    server: Server, most: int
) -> None:
    server.behaviour = lambda body, number: Reply(body=answer(body, n=min(most, body["n"])))
    (found,) = ask(engine(server), Request(prompt(5), n=7, seed=100))
    assert texts(found) == [text_for("5 + 5 = ?", 100 + i) for i in range(7)]
    assert [body["n"] for body in server.requests] == list(range(7, 0, -most))


def test_a_server_that_refuses_to_give_several_is_asked_for_one_at_a_time(server: Server) -> None:
    def one_only(body: dict[str, Any], number: int) -> Reply | None:
        return Reply(400, {"error": {"message": "n must be 1"}}) if body["n"] > 1 else None

    server.behaviour = one_only
    found = ask(engine(server, concurrency=1), *(Request(prompt(i), n=3, seed=9) for i in (1, 2)))
    assert [texts(answered) for answered in found] == [
        [text_for(f"{i} + {i} = ?", 9 + k) for k in range(3)] for i in (1, 2)
    ]
    assert [body["n"] for body in server.requests] == [3, 1, 1, 1, 1, 1, 1]


def test_more_choices_than_asked_for_are_left_aside(server: Server) -> None:
    server.behaviour = lambda body, number: Reply(body=answer(body, n=9))
    (found,) = ask(engine(server), Request(prompt(), n=2, seed=0))
    assert len(found.responses) == 2


def test_choices_are_taken_by_their_number(server: Server) -> None:
    def turned(body: dict[str, Any], number: int) -> Reply:
        good = answer(body)
        return Reply(body={**good, "choices": good["choices"][::-1]})

    server.behaviour = turned
    (found,) = ask(engine(server), Request(prompt(5), n=6, seed=0))
    assert texts(found) == [text_for("5 + 5 = ?", i) for i in range(6)]


@pytest.mark.parametrize(
    "trouble",
    [
        Reply(429, {"error": {"message": "slow down"}}, headers={"Retry-After": "0.02"}),
        Reply(503, raw=b"<html>busy</html>"),
        Reply(500, {"error": "oh"}),
        Reply(hang_up=True),
        Reply(raw=b"not json"),
        Reply(raw=b"[" * 100_000),
        Reply(body=[1]),
        Reply(body={"choices": []}),
        Reply(body={"choices": [{"message": {"content": 5}}]}),
        Reply(body={"error": {"message": "the model is loading"}}),
        Reply(raw=b"\xff\xfe", headers={"Content-Encoding": "gzip"}),
    ],
    ids=lambda reply: f"{reply.status}-{str(reply.raw or reply.body)[:12]}",
)
def test_what_goes_wrong_twice_is_tried_again(server: Server, trouble: Reply) -> None:
    server.behaviour = lambda body, number: trouble if number < 2 else None
    (found,) = ask(engine(server), Request(prompt(), n=2, seed=0))
    assert (len(found.responses), found.failure, len(server.requests)) == (2, "", 3)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (Reply(raw=b"\x1b[31mnot json"), "something that is not JSON"),
        (Reply(503, {"error": {"message": "busy \x1b[31m"}}), "status 503: busy"),
        (Reply(hang_up=True), "the connection failed"),
        (Reply(body={"choices": []}), "no choice that has a text"),
    ],
)
def test_what_goes_wrong_again_and_again_is_a_failure_with_its_reason(
    server: Server, trouble: Reply, said: str
) -> None:
    server.behaviour = lambda body, number: trouble
    (found,) = ask(engine(server), Request(prompt(), n=2, seed=0))
    assert said in found.failure
    assert "(4 attempts)" in found.failure
    assert found.failure.isprintable()
    assert len(server.requests) == 4


def test_what_came_before_a_failure_is_kept(server: Server) -> None:
    server.behaviour = lambda body, number: Reply(body=answer(body, n=3)) if number == 0 else Reply(500)
    (found,) = ask(engine(server), Request(prompt(), n=8, seed=0))
    assert (len(found.responses), "status 500" in found.failure) == (3, True)


def test_a_server_that_stalls_is_not_waited_for(server: Server) -> None:
    server.behaviour = lambda body, number: Reply(stall=True)
    (found,) = ask(engine(server, timeout=0.05, retries=1), Request(prompt(), n=1, seed=0))
    assert found.failure == "no answer within 0.05 s (2 attempts)"
    (found,) = ask(engine(server, timeout=60.0, deadline=0.1), Request(prompt(), n=1, seed=0))
    assert found.failure == "no answer within 0.1 s"


def test_a_server_that_wants_us_to_wait_beyond_the_deadline_is_not_waited_for(server: Server) -> None:
    server.behaviour = lambda body, number: Reply(429, headers={"Retry-After": "3600"})
    (found,) = ask(engine(server), Request(prompt(), n=1, seed=0))
    assert "wants us to wait 3600 s" in found.failure


def test_a_request_that_is_refused_is_not_sent_again(server: Server) -> None:
    def refuse(body: dict[str, Any], number: int) -> Reply | None:
        return Reply(400, {"error": {"message": "too long"}}) if "2 + 2" in str(body) else None

    server.behaviour = refuse
    found = ask(engine(server), *(Request(prompt(i), n=1, seed=0) for i in (1, 2, 3)))
    assert [answered.failure for answered in found] == ["", "the server answers with status 400: too long", ""]
    assert len(server.requests) == 3


def test_a_server_that_fails_again_and_again_is_given_up(server: Server) -> None:
    server.behaviour = lambda body, number: Reply(500)
    stream = engine(server, retries=0, concurrency=2).generate(
        (Request(prompt(i), n=1, seed=0) for i in range(1, 1000)), Sampling()
    )
    with pytest.raises(EngineError, match="8 requests in a row failed"):
        list(stream)
    assert len(server.requests) <= 12


def test_requests_that_are_at_fault_themselves_do_not_end_it(server: Server) -> None:
    server.behaviour = lambda body, number: Reply(400)
    assert len(ask(engine(server), *(Request(prompt(i), n=1, seed=0) for i in range(1, 30)))) == 29


def test_a_server_that_is_down(server: Server) -> None:
    server.close()
    down = engine(server, retries=0)
    with pytest.raises(EngineError, match=f"no server can be reached at {re.escape(server.url)}"):
        down.check()
    (found,) = ask(down, Request(prompt(), 1, 0))
    assert found.failure.startswith("the connection failed")


def test_a_model_that_the_server_does_not_have(server: Server) -> None:
    with pytest.raises(UnknownName, match="known: toy") as caught:
        OpenAIEngine("tyo", server.url).check()
    assert caught.value.hint == 'did you mean "toy"?'


@pytest.mark.parametrize("status", [404, 501])
def test_a_server_that_cannot_list_its_models_may_still_answer(server: Server, status: int) -> None:
    server.models = Reply(status)
    engine(server).check()


def test_a_web_page_is_no_api(server: Server) -> None:
    server.models = Reply(raw=b"<html>Hello</html>")
    with pytest.raises(EngineError, match="is not the address of an OpenAI-compatible API"):
        engine(server).check()


@pytest.mark.parametrize("before", [0, 110, 290, 1190])
def test_a_server_that_says_everything_back_does_not_show_the_key(
    server: Server, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    raw = b"-" * before + KEY.encode() * 30
    server.models = Reply(raw=raw)
    with pytest.raises(EngineError) as caught:
        engine(server).check()
    server.behaviour = lambda body, number: Reply(raw=raw)
    (found,) = ask(engine(server, retries=0), Request(prompt(), 1, 0))
    assert "that is not JSON" in found.failure
    for size in range(4, len(KEY) + 1):
        assert KEY[:size] not in str(caught.value) + found.failure


def test_a_server_that_does_not_say_which_models_it_has(server: Server) -> None:
    server.models = Reply(body={"data": None})
    engine(server).check()


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "http://host:port/v1", "http://a\nb"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidParameter, match="http://localhost:8000/v1"):
        OpenAIEngine("toy", url)


@pytest.mark.parametrize("url", ["http://me:secret@host/v1", "http://host/v1?key=secret", "http://host/v1#secret"])
def test_a_url_with_a_secret_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        OpenAIEngine("toy", url)
    assert "secret" not in str(caught.value).replace("secrets", "")


def test_the_key_is_sent_and_shown_nowhere(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made = engine(server, retries=0)
    server.behaviour = lambda body, number: Reply(500, {"error": {"message": f"key {KEY} is tired"}})
    (found,) = ask(made, Request(prompt(), 1, 0))
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert found.failure == "the server answers with status 500: key *** is tired"
    server.behaviour = lambda body, number: Reply(401, {"error": {"message": f"bad key {KEY}"}})
    with pytest.raises(EngineError, match="status 401: bad key") as caught:
        ask(made, Request(prompt(), 1, 0))
    trace: BaseException | None = caught.value
    while trace is not None:
        assert KEY not in repr(trace) + str(trace)
        trace = trace.__cause__ or trace.__context__
    assert "OPENAI_API_KEY" in str(caught.value.hint)
    assert KEY not in repr(made) + json.dumps(dict(made.settings)) + repr(vars(made))


def test_the_key_is_not_sent_in_the_clear_to_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("MINE", KEY)

    def sent(url: str, **options: Any) -> bool:
        return "Authorization" in OpenAIEngine("toy", url, **options)._headers()

    assert not sent("http://10.0.0.7:8000/v1")
    assert sent("http://10.0.0.7:8000/v1", key_variable="MINE")
    assert sent("https://example.org/v1")
    assert sent("http://localhost:8000/v1")
    assert sent("http://[::1]:8000/v1")


def test_a_key_with_a_line_break_is_refused_without_being_shown(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a\nb")
    with pytest.raises(EngineError, match="OPENAI_API_KEY has characters"):
        engine(server).check()


def test_vllm_is_asked_for_token_ids(server: Server) -> None:
    server.models = Reply(body={"data": [{"id": "toy", "owned_by": "vllm"}]})
    made = engine(server)
    made.check()
    (found,) = ask(made, Request(prompt(8), n=2, seed=0))
    assert [response.token_ids for response in found.responses] == [tuple(map(ord, text)) for text in texts(found)]
    assert [response.tokens for response in found.responses] == [2, 2]
    assert "tokens" not in found.responses[0].extras


def test_a_server_that_calls_the_limit_by_its_new_name(server: Server) -> None:
    together = threading.Barrier(3, timeout=20)

    def strict(body: dict[str, Any], number: int) -> Reply | None:
        if number < 3:
            together.wait()
        message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        return Reply(400, {"error": {"message": message}}) if "max_tokens" in body else None

    server.behaviour = strict
    found = ask(engine(server, concurrency=3), *(Request(prompt(i), 2, 0) for i in range(1, 7)), max_tokens=9)
    assert [(answered.failure, len(answered.responses)) for answered in found] == [("", 2)] * 6
    assert [body.get("max_completion_tokens") for body in server.requests] == [None] * 3 + [9] * 6


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_log_probabilities(server: Server, api: Any) -> None:
    def with_logprobs(body: dict[str, Any], number: int) -> Reply:
        good = answer(body)
        content = [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1}]
        told = {"content": content} if api == "chat" else {"token_logprobs": [-0.5, -1], "tokens": ["a", "b"]}
        return Reply(body={**good, "choices": [{**choice, "logprobs": told} for choice in good["choices"]]})

    server.behaviour = with_logprobs
    (found,) = ask(engine(server, api=api), Request(prompt(), n=2, seed=0), logprobs=True)
    assert [(r.logprobs, r.tokens) for r in found.responses] == [((-0.5, -1.0), 2)] * 2
    assert server.requests[0]["logprobs"] == (True if api == "chat" else 1)


def test_so_many_requests_at_a_time_and_no_more(server: Server) -> None:
    together = threading.Barrier(4, timeout=20)

    def wait(body: dict[str, Any], number: int) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait()

    server.behaviour = wait
    found = ask(engine(server, concurrency=4), *(Request(prompt(i), 1, 0) for i in range(1, 13)))
    assert (len(found), server.busiest) == (12, 4)


def test_requests_are_taken_as_there_is_room_and_closing_gives_up_the_rest(server: Server) -> None:
    taken = []

    def requests() -> Any:
        for i in range(1, 100):
            taken.append(i)
            yield Request(prompt(i), 1, 0)

    server.behaviour = lambda body, number: Reply(stall=True) if number else None
    stream = engine(server, concurrency=3).generate(requests(), Sampling())
    assert next(stream).responses
    stream.close()  # type: ignore[attr-defined]
    assert len(taken) <= 4


def test_truncated_is_what_the_server_says(server: Server) -> None:
    def cut(body: dict[str, Any], number: int) -> Reply:
        good = answer(body)
        good["choices"][0]["finish_reason"] = "length"
        good["choices"][1]["finish_reason"] = "content_filter"
        return Reply(body=good)

    server.behaviour = cut
    (found,) = ask(engine(server), Request(prompt(), n=3, seed=0))
    assert [(r.truncated, r.finish) for r in found.responses] == [
        (True, "length"),
        (False, "content_filter"),
        (False, "stop"),
    ]


def test_a_model_that_only_thought_has_said_nothing(server: Server) -> None:
    message = {"content": None, "reasoning": "hm"}
    server.behaviour = lambda body, number: Reply(body={"choices": [{"message": message}]})
    (found,) = ask(engine(server), Request(prompt(), n=1, seed=0))
    assert (found.responses[0].text, found.responses[0].extras, found.responses[0].tokens) == (
        "",
        {"reasoning": "hm"},
        None,
    )


@pytest.mark.parametrize("bad", [{"concurrency": 0}, {"timeout": 0}, {"retries": -1}, {"deadline": float("inf")}])
def test_parameters_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match=next(iter(bad))):
        OpenAIEngine("toy", "http://localhost/v1", **bad)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=6,
)
NAMES = ("index", "message", "text", "finish_reason", "token_ids", "logprobs", "content", "reasoning")


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    choices=st.lists(st.dictionaries(st.sampled_from(NAMES), JSON | st.dictionaries(st.sampled_from(NAMES), JSON))),
    usage=JSON | st.dictionaries(st.just("completion_tokens"), JSON),
    asked=st.integers(1, 4),
)
def test_whatever_a_server_sends_gives_responses_or_says_why_not(choices: Any, usage: Any, asked: int) -> None:
    body = json.dumps({"choices": choices, "usage": usage}).encode()
    try:
        found = responses(body, asked=asked)
    except BadReply:
        return
    assert 1 <= len(found) <= asked
    for response in found:
        assert isinstance(response.text, str)
        assert response.tokens is None or response.tokens >= 0
        json.dumps(dict(response.extras), allow_nan=False)


@given(texts=st.lists(st.text(max_size=20), min_size=2, max_size=5), total=st.integers(0, 10_000))
def test_tokens_of_all_choices_together_are_shared_out_whole(texts: list[str], total: int) -> None:
    choices = [{"index": i, "text": text} for i, text in enumerate(texts)]
    body = json.dumps({"choices": choices, "usage": {"completion_tokens": total}}).encode()
    found = responses(body, asked=len(texts))
    assert sum(response.tokens or 0 for response in found) == total
    assert {response.extras["tokens"] for response in found} == {"estimated"}


def test_what_is_shown_is_short_and_plain() -> None:
    assert shown("a" * 10_000) == "a" * 300 + " …"
    assert shown("\x1b[31m\x00\u202e") == "[31m"
