"""Rewriting prompts through a real endpoint on loopback: what it is asked, what is kept, and every fault of it."""

import asyncio
import logging
import shutil
import ssl
import subprocess
import time
import warnings
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.traceback import Traceback

from llmdiff.errors import LLMDiffError
from llmdiff.hashing import text_hash
from llmdiff.proxy import ProxyConfig, Rewriter, Rewriting, default_instruction
from llmdiff.proxy.endpoint import LARGEST
from llmdiff.proxy.store import RewritingStore
from proxy.loopback import Loopback, Reply, completion, drips, echoes, fails, floods, hangs_up, loopback, says, send

PROMPT = "the animal that barks"
KEY = "sk-it-must-not-be-seen-0123456789"


def config(endpoint: Loopback, **settings: Any) -> ProxyConfig:
    return ProxyConfig(url=endpoint.url, model="oracle", **settings)


def rewrite(endpoint: Loopback, *prompts: str, **settings: Any) -> dict[str, Rewriting]:
    return Rewriter(config(endpoint, **settings)).rewrite(prompts or (PROMPT,))


def test_a_prompt_is_rewritten_as_the_endpoint_says(endpoint: Loopback) -> None:
    endpoint.reply = says('<think>It barks.</think>\n\n"A brown dog."\n')
    rewriting = rewrite(endpoint)[PROMPT]
    assert rewriting == Rewriting(model="oracle", instruction=default_instruction(), texts=("A brown dog.",))
    (asked,) = endpoint.asked
    assert asked["model"] == "oracle"
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    assert asked["messages"][0]["content"] == default_instruction()
    assert asked["messages"][1]["content"] == PROMPT
    assert asked["temperature"] == 0
    assert "authorization" not in endpoint.headers[0]


def test_several_rewritings_are_sampled_apart_and_kept_in_order(endpoint: Loopback) -> None:
    found = rewrite(endpoint, "one", "two", rewritings=3)
    assert found["two"].texts == ("two number 0", "two number 1", "two number 2")
    assert {asked["temperature"] for asked in endpoint.asked} == {1.0}
    assert [found["one"].of_picture(n, average=False).texts[0][-1] for n in range(4)] == ["0", "1", "2", "0"]
    assert found["one"].of_picture(5, average=True).texts == found["one"].texts


def test_equal_rewritings_are_not_averaged() -> None:
    rewriting = Rewriting(model="m", instruction="i", texts=("a dog",) * 3)
    assert rewriting.of_picture(1, average=True).texts == ("a dog",)


def test_what_is_kept_is_not_asked_again_and_anything_else_is(endpoint: Loopback) -> None:
    first = rewrite(endpoint)
    assert rewrite(endpoint) == first
    assert len(endpoint.asked) == 1
    rewrite(endpoint, instruction="Be brief.")
    rewrite(endpoint, temperature=0.5)
    rewrite(endpoint, "another prompt")
    rewrite(endpoint, rewritings=2)
    Rewriter(ProxyConfig(url=endpoint.url, model="another")).rewrite([PROMPT])
    assert len(endpoint.asked) == 7


def test_a_kept_answer_that_is_damaged_is_asked_for_again(endpoint: Loopback, tmp_path: Path) -> None:
    first = rewrite(endpoint)
    (file,) = (tmp_path / "home" / "rewritings").glob("*.json")
    for damage in (b"", b"\xff", b"[]", b'{"text": 3}', b'{"text": ""}', b'{"text": "' + b"a" * 10**5 + b'"}'):
        file.write_bytes(damage)
        assert rewrite(endpoint) == first
    assert len(endpoint.asked) == 7


@pytest.mark.fault("checksum")
def test_no_changed_byte_of_a_kept_answer_is_drawn(tmp_path: Path) -> None:
    store = RewritingStore(tmp_path)
    store.put("key", "a yellow ball")
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for place in range(len(whole)):
        for bit in (1, 8, 32):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            assert store.get("key") in (None, "a yellow ball")
    file.write_bytes(whole)
    assert store.get("key") == "a yellow ball"


def test_where_nothing_can_be_kept_the_rewriting_is_used_all_the_same(endpoint: Loopback, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("no folder")
    assert PROMPT in rewrite(endpoint)


FAULTS: dict[str, tuple[Reply, str]] = {
    "HTTP 500": (fails(500), "answered with HTTP 500"),
    "HTTP 429": (fails(429), "answered with HTTP 429"),
    "no such model": (fails(404), "answered with HTTP 404"),
    "wrong key": (fails(401), "does not accept the key"),
    "not JSON": (fails(200, b"<html>busy</html>"), "not JSON"),
    "not UTF-8": (fails(200, b"\xff\xfe"), "not JSON"),
    "too deep": (fails(200, b"[" * 10**5), "not JSON"),
    "no choices": (fails(200, b'{"choices": []}'), "not of a chat endpoint"),
    "a list": (fails(200, b"[1]"), "not of a chat endpoint"),
    "a number for a text": (says(3), "not of a chat endpoint"),
    "empty": (says(" \n"), "empty answer"),
    "null": (says(None), "empty answer"),
    "thoughts alone": (says("<think>Hm.</think>"), "empty answer"),
    "thoughts without end": (says("<think>Hm, let me"), "cut for its length"),
    "cut": (says("a dog and a", finish_reason="length"), "cut for its length"),
    "over-long": (says("dog " * 500), "characters, more than"),
    "refusal": (says(None, refusal="No."), "refused"),
    "refusal in words": (says("I'm sorry, but I can't help with that."), "refused"),
    "filtered": (says("a", finish_reason="content_filter"), "refused"),
    "without end": (floods, f"more than {LARGEST / 1e6:.3g} MB"),
    "compressed": (fails(200, completion("a dog"), Content_Encoding="gzip"), "compressed"),
    "hangs up": (hangs_up, "broke off"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_costs_one_warning_and_the_prompt_is_drawn_as_it_is(endpoint: Loopback, name: str) -> None:
    endpoint.reply, sentence = FAULTS[name]
    with pytest.warns(UserWarning, match=sentence) as warned:
        assert rewrite(endpoint) == {}
    assert [str(one.message).endswith(": the prompt is drawn as it is.") for one in warned] == [True]
    endpoint.reply = says("a dog")
    assert rewrite(endpoint)[PROMPT].texts == ("a dog",)  # a fault is not kept


@pytest.mark.parametrize("reply", [drips, lambda handler, question: time.sleep(2)], ids=["drips", "silent"])
def test_an_endpoint_that_is_too_slow_is_given_up_in_time(endpoint: Loopback, reply: Reply) -> None:
    endpoint.reply = reply
    begin = time.monotonic()
    with pytest.warns(UserWarning, match="no answer within 0.3 s"):
        assert rewrite(endpoint, timeout=0.3) == {}
    assert time.monotonic() - begin < 2


def test_an_endpoint_that_is_not_there_is_asked_once(endpoint: Loopback) -> None:
    rewriter = Rewriter(ProxyConfig(url="http://127.0.0.1:9/v1", model="nobody"))
    with pytest.warns(UserWarning, match="cannot be reached: 9 of 9 prompts are drawn as they are") as warned:
        assert rewriter.rewrite(map(str, range(9))) == {}
    assert len(warned) == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make a certificate")
def test_a_certificate_that_nobody_has_signed_is_not_trusted(endpoint: Loopback, tmp_path: Path) -> None:
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    files = [str(tmp_path / name) for name in ("certificate.pem", "key.pem")]
    subprocess.run([*made, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*files)
    with loopback(tls) as here, pytest.warns(UserWarning, match="has a certificate that is not trusted"):
        assert rewrite(here) == {}
    assert here.asked == []


def test_a_key_that_is_not_accepted_is_not_tried_on_every_prompt(endpoint: Loopback) -> None:
    endpoint.reply = fails(401)
    rewriter = Rewriter(config(endpoint))
    for prompts in (map(str, range(40)), ["again"]):
        with pytest.warns(UserWarning, match="does not accept the key"):
            assert rewriter.rewrite(prompts) == {}
    assert len(endpoint.asked) <= 4  # those that are asked at once


def test_of_several_rewritings_those_are_used_that_came(endpoint: Loopback) -> None:
    def every_other(handler: Any, question: dict[str, Any]) -> None:
        (echoes if question["seed"] != 1 else fails(500))(handler, question)

    endpoint.reply = every_other
    with pytest.warns(UserWarning, match="HTTP 500: 1 of 3 rewritings are missing"):
        assert rewrite(endpoint, rewritings=3)[PROMPT].texts == (f"{PROMPT} number 0", f"{PROMPT} number 2")


def test_a_server_that_refuses_fields_is_asked_in_the_plainest_form(endpoint: Loopback) -> None:
    def strict(handler: Any, question: dict[str, Any]) -> None:
        plain = question.keys() == {"model", "messages"} and [m["role"] for m in question["messages"]] == ["user"]
        (says("a dog") if plain else fails(400))(handler, question)

    endpoint.reply = strict
    assert rewrite(endpoint)[PROMPT].texts == ("a dog",)
    assert endpoint.asked[-1]["messages"][0]["content"].startswith(default_instruction())
    assert endpoint.asked[-1]["messages"][0]["content"].endswith(PROMPT)


def test_it_may_be_called_within_an_event_loop(endpoint: Loopback) -> None:
    async def both() -> list[dict[str, Rewriting]]:
        rewriter = Rewriter(config(endpoint))
        return [rewriter.rewrite(["one"]), await rewriter.rewrite_async(["two"])]

    found = asyncio.run(both())
    assert [list(one) for one in found] == [["one"], ["two"]]


def test_what_is_meant_for_this_machine_goes_through_no_proxy_of_the_network(
    endpoint: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert PROMPT in rewrite(endpoint)


def test_a_redirect_is_not_followed(endpoint: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def elsewhere(handler: Any, question: dict[str, Any]) -> None:
        send(handler, 307, b"", Location=endpoint.url + "/elsewhere")

    endpoint.reply = elsewhere
    with pytest.warns(UserWarning, match="sends elsewhere"):
        assert rewrite(endpoint) == {}
    assert len(endpoint.asked) == 1


def test_the_key_goes_to_the_endpoint_and_nowhere_else(
    endpoint: Loopback,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx2", "httpcore2", "asyncio"):
        caplog.set_level(logging.DEBUG, name)
    monkeypatch.setenv("OPENAI_API_KEY", KEY + "\n")
    rewriter = Rewriter(config(endpoint))
    found = rewriter.rewrite([PROMPT])
    assert endpoint.headers[0]["authorization"] == f"Bearer {KEY}"
    endpoint.reply = lambda handler, question: send(handler, 401, f"wrong key {KEY}".encode(), X_Key=KEY[:10])
    with pytest.warns(UserWarning, match="does not accept") as warned:
        rewriter.rewrite(["another"])
    endpoint.reply = says(f"a dog with a sign that says {KEY}")
    with pytest.warns(UserWarning, match="the key in it"):
        assert rewrite(endpoint, "a third") == {}
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    seen = [str(one.message) for one in warned] + [caplog.text, *capfd.readouterr(), repr(rewriter.config), repr(found)]
    assert all(KEY not in text for text in seen)
    assert all(KEY.encode() not in content for content in kept)


def test_a_traceback_through_the_request_does_not_show_the_key(
    endpoint: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def interrupted(self: Any, *args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt  # which nothing catches

    monkeypatch.setattr("httpx2.Response.aiter_raw", interrupted)
    console = Console(file=StringIO(), width=400)
    with pytest.raises(KeyboardInterrupt) as caught:
        rewrite(endpoint)
    shown = Traceback.from_exception(caught.type, caught.value, caught.tb, show_locals=True, locals_max_string=None)
    console.print(shown)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "endpoint.py" in text
    assert KEY not in text


def test_the_default_key_is_sent_by_https_or_to_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    sent = {
        url: ProxyConfig(url=url, model="m").key() is not None
        for url in ("https://api.openai.com/v1", "http://localhost:1/v1", "http://[::1]:1/v1", "http://10.0.0.7:80/v1")
    }
    assert list(sent.values()) == [True, True, True, False]
    monkeypatch.setenv("MINE", "mine")
    key = ProxyConfig(url="http://10.0.0.7:80/v1", model="m", key_env="MINE").key()
    assert key is not None
    assert key.get_secret_value() == "mine"


@pytest.mark.parametrize("value", ["", "two words", "line\nbreak", "clé", "\x07"])
def test_what_cannot_be_a_key_is_refused_and_not_shown(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", value)
    with pytest.raises(LLMDiffError, match="MINE") as caught:
        Rewriter(ProxyConfig(url="https://host/v1", model="m", key_env="MINE"))
    assert not value.strip() or value not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["", "host/v1", "ftp://host/v1", "https://", "https://u:secret@host/v1", "https://host/v1?key=secret", "http://[/v1",
     "https://host:99999999/v1", "file:///etc/passwd", "https://host/\x00"],
)  # fmt: skip
def test_urls_that_will_not_do_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(LLMDiffError, match="URL of the proxy") as caught:
        ProxyConfig(url=url, model="m")
    assert "secret" not in str(caught.value)


def test_settings_that_will_not_do_are_refused_in_a_sentence() -> None:
    for settings in ({"rewritings": 0}, {"rewritings": 17}, {"timeout": 0}, {"temperature": 3}, {"instruction": ""}):
        with pytest.raises(LLMDiffError, match="settings of the proxy will not do"):
            ProxyConfig(url="https://host/v1", model="m", **settings)


def test_the_default_instruction_never_changes() -> None:
    assert text_hash(default_instruction(1))[:16] == "72b1433a85034059"


def test_no_warning_where_all_is_well(endpoint: Loopback) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rewrite(endpoint, "one", "two")
