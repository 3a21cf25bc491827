import re
import threading
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from llmdiff.study import Study, study_app
from llmdiff.study.votes import Votes
from study.pictures import make_study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return make_study(tmp_path, "red", "blue", trials=10)


def test_twenty_raters_at_once_lose_no_vote(study: Study, address: str) -> None:
    sent: dict[str, int] = {}

    def rate(number: int) -> None:
        with httpx.Client(base_url=address, timeout=60) as client:
            trials = client.post("/api/session").json()["trials"]
            for trial in range(len(trials)):
                answers = {"follows": "left", "better": ("right", "equal", "neither")[trial % 3]}
                ballot = {"trial": trial, "answers": answers, "milliseconds": number}
                assert client.post("/api/vote", json=ballot).status_code == 204
            sent[client.cookies[f"rater-{study.identity}"]] = len(trials)

    threads = [threading.Thread(target=rate, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    votes = Votes(study)
    found = votes.all()
    votes.close()
    assert len(sent) == 20
    assert len(found) == sum(2 * count for count in sent.values())
    for rater, count in sent.items():
        assert sum(vote.rater == rater for vote in found) == 2 * count


def test_nothing_that_is_served_says_which_system_drew_what(study: Study, tmp_path: Path) -> None:
    secrets = [*study.systems, *(shown.picture for pair in (*study.pairs, *study.checks) for shown in pair.pictures)]
    secrets += [str(tmp_path), *(pair.name for pair in study.pairs)]
    client = TestClient(study_app(study))
    replies = [client.get("/"), client.post("/api/session")]
    trials = replies[1].json()["trials"]
    replies += [client.get(f"/{trial[side]}") for trial in trials for side in ("left", "right")]
    replies += [
        client.get(path) for path in ("/openapi.json", "/docs", "/study.json", "/pictures/", "/picture/999/left")
    ]
    replies += [client.get("/picture/..%2fstudy.json/left"), client.post("/api/vote", json={"trial": 999})]
    for reply in replies:
        told = str(sorted(reply.headers.items())) + reply.content.decode("latin-1")
        assert [secret for secret in secrets if re.search(rf"\b{re.escape(secret)}\b", told)] == []
        assert not {"etag", "last-modified", "content-disposition"} & set(reply.headers)
    assert {reply.status_code for reply in replies[2 : 2 + 2 * len(trials)]} == {200}
    assert set(trials[0]) == {"prompt", "left", "right"}
    assert "check" not in str(trials)


def test_a_rater_goes_on_after_a_reload_and_may_think_again(study: Study) -> None:
    client = TestClient(study_app(study))
    trials = client.post("/api/session").json()["trials"]
    client.post("/api/vote", json={"trial": 0, "answers": {"follows": "left"}})
    client.post("/api/vote", json={"trial": 0, "answers": {"follows": "right", "better": "equal"}})
    again = client.post("/api/session").json()
    assert again["trials"] == trials
    assert again["answers"] == {"0": {"follows": "right", "better": "equal"}}
    other = TestClient(study_app(study)).post("/api/session").json()
    assert other["answers"] == {}


def test_the_same_sides_stand_where_they_stood(study: Study) -> None:
    client = TestClient(study_app(study))
    client.post("/api/session")
    rater = client.cookies[f"rater-{study.identity}"]
    votes = Votes(study)
    for number, trial in enumerate(votes.trials(rater) or ()):
        for side, shown in zip(("left", "right"), study.sides(trial), strict=True):
            assert client.get(f"/picture/{number}/{side}").content == study.picture(shown.picture).read_bytes()
    votes.close()


@pytest.mark.parametrize(
    ("ballot", "status"),
    [
        ({"trial": 999, "answers": {"follows": "left"}}, 404),
        ({"trial": -1, "answers": {"follows": "left"}}, 422),
        ({"trial": 0, "answers": {}}, 422),
        ({"trial": 0, "answers": {"follows": "red"}}, 422),
        ({"trial": 0, "answers": {"beauty": "left"}}, 422),
        ({"trial": 0, "answers": {"follows": "left"}, "milliseconds": -5}, 422),
        ({"trial": 10**30, "answers": {"follows": "left"}}, 422),
        ([], 422),
    ],
)
def test_what_is_no_vote_is_refused_and_the_next_one_counts(study: Study, ballot: object, status: int) -> None:
    client = TestClient(study_app(study))
    client.post("/api/session")
    assert client.post("/api/vote", json=ballot).status_code == status
    assert client.post("/api/vote", json={"trial": 0, "answers": {"follows": "left"}}).status_code == 204


@pytest.mark.parametrize("cookie", [None, "x", "0" * 32, "../../etc"])
def test_who_has_not_opened_the_page_has_no_vote(study: Study, cookie: str | None) -> None:
    client = TestClient(study_app(study), cookies={} if cookie is None else {f"rater-{study.identity}": cookie})
    assert client.post("/api/vote", json={"trial": 0, "answers": {"follows": "left"}}).status_code == 403
    assert client.get("/picture/0/left").status_code == 403
    assert client.post("/api/session").status_code == 200
    assert client.post("/api/vote", json={"trial": 0, "answers": {"follows": "left"}}).status_code == 204
