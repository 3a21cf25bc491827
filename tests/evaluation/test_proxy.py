"""What a proxy is worth: prompts that only imply, and an endpoint that knows the answers."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmdiff.cli import main
from llmdiff.evaluation import evaluate_proxy, implied_prompts
from llmdiff.evaluation.domains import DOMAINS
from llmdiff.proxy import ProxyConfig
from llmdiff.scenes.facts import Backdrop, Count
from proxy.loopback import Loopback, completion, loopback, send


@pytest.fixture
def oracle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """Answers with the facts of a prompt in plain words."""
    answers = {one.prompt: DOMAINS[1].plainly(one.facts) for one in implied_prompts()}
    monkeypatch.setenv("LLMDIFF_HOME", str(tmp_path / "home"))
    with loopback() as here:
        here.reply = lambda handler, question: send(
            handler, 200, completion(answers[question["messages"][-1]["content"]])
        )
        yield here


def test_prompts_imply_what_they_do_not_name() -> None:
    prompts = implied_prompts()
    assert len(prompts) == len({one.prompt for one in prompts}) == 60
    for one in prompts:
        words = set(one.prompt.lower().replace(",", " ").split())
        for fact in one.facts:
            if isinstance(fact, Count):
                assert {fact.look.kind, fact.look.colour}.isdisjoint(words), one.prompt
            if isinstance(fact, Backdrop):
                assert fact.name not in words - {"day"}, one.prompt


def test_the_committed_prompts_are_those_of_the_recipe(tmp_path: Path) -> None:
    from proxy_study.make_prompts import main as make

    make(tmp_path / "prompts.json")
    source = Path(__file__).parents[2] / "src" / "llmdiff" / "evaluation" / "implied_prompts_v1.json"
    assert (tmp_path / "prompts.json").read_text() == source.read_text()


@pytest.mark.slow
def test_whoever_knows_the_answers_gains(oracle: Loopback) -> None:
    proxy = ProxyConfig(url=oracle.url, model="oracle")
    rows = evaluate_proxy(proxy, implied_prompts(6), adapter="none", seeds=1, steps=10)
    by_kind = {(row["model"], row["wording"]): row for row in rows}
    assert {row["rewritten"] for row in rows} == {6}
    assert by_kind["base", "as it is"]["facts"] < 0.4
    assert by_kind["base", "gain"]["facts"] > 0.3


def test_groups_and_proxies_that_there_are_not_are_told(oracle: Loopback, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "proxy"]) == 1
    assert "give --proxy" in capfd.readouterr().err
    assert main(["evaluate", "proxy", "--proxy", oracle.url, "--proxy-model", "m", "--group", "riddles"]) == 1
    assert "implied, plain" in capfd.readouterr().err


def test_answers_are_those_of_the_recipes_oracle(tmp_path: Path) -> None:
    from proxy_study.endpoint import oracle as look_up
    from proxy_study.make_oracle import main as make

    make(tmp_path / "oracle.json")
    prompt = implied_prompts()[0]
    question = {"messages": [{"content": "x"}, {"content": prompt.prompt}]}
    assert look_up(tmp_path / "oracle.json")(question) == DOMAINS[1].plainly(prompt.facts)
    assert len(json.loads((tmp_path / "oracle.json").read_text())) == 420
    make(tmp_path / "wordings.json", wordings=3)
    answer = look_up(tmp_path / "wordings.json")
    assert len({answer(question | {"seed": seed}) for seed in range(3)}) > 1
    assert answer({"messages": [{"content": "of nothing that is asked"}]}) == ""
