import re
import sqlite3
import threading
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from llmdiff.errors import LLMDiffError
from llmdiff.study import Study, study_app, study_report
from llmdiff.study.votes import FILE, Ballot, Votes
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


@pytest.mark.fault("lost work")
def test_a_vote_that_cannot_be_kept_is_answered_so_and_counts_when_it_is_sent_again(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: connect(*args, **kwargs | {"timeout": 0.1}))
    client = TestClient(study_app(study))
    client.post("/api/session")
    ballot = {"trial": 0, "answers": {"follows": "left"}}
    other = connect(study.folder / FILE)
    other.execute("BEGIN EXCLUSIVE")
    reply = client.post("/api/vote", json=ballot)
    assert (reply.status_code, reply.json()) == (503, {"detail": "The answers cannot be kept at the moment."})
    other.rollback()
    other.close()
    assert client.post("/api/vote", json=ballot).status_code == 204
    votes = Votes(study)
    assert [vote.answer for vote in votes.all()] == ["left"]
    votes.close()


def test_a_full_disk_loses_no_vote_that_was_kept(study: Study) -> None:
    votes = Votes(study)
    trials = votes.begin("a" * 32)
    votes.add("a" * 32, {0: Ballot(answers={"follows": "left"})})
    pages = votes._database.execute("PRAGMA page_count").fetchone()[0]
    votes._database.execute(f"PRAGMA max_page_count = {pages}")

    def fill() -> None:
        for number in range(5000):
            votes.add("a" * 32, {number % len(trials): Ballot(answers={"better": "left"})})
            votes.begin(f"{number:032x}")

    with pytest.raises(LLMDiffError, match="full"):
        fill()
    assert {vote.answer for vote in votes.all()} == {"left"}
    votes.close()


def test_votes_of_another_study_in_this_folder_are_not_taken_for_its_own(study: Study) -> None:
    votes = Votes(study)
    votes.add_rater("a" * 32, study.trials_for)
    votes.close()
    pair = study.pairs[0].model_copy(update={"pictures": study.pairs[1].pictures})
    other = study.model_copy(update={"pairs": (pair, *study.pairs[1:])})
    for use in (Votes, study_report, study_app):
        with pytest.raises(LLMDiffError, match="another study"):
            use(other)
    assert study_report(study).raters == ()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE raters SET trials = '[]'",
        "UPDATE raters SET trials = 'x'",
        'UPDATE raters SET trials = \'[{"kind": "pair", "index": 99, "flipped": false}]\'',
        "UPDATE votes SET trial = 999",
        "DELETE FROM raters",
        "DROP TABLE votes",
    ],
)
def test_votes_that_were_tampered_with_are_one_sentence(study: Study, damage: str) -> None:
    votes = Votes(study)
    votes.begin("a" * 32)
    votes.add("a" * 32, {0: Ballot(answers={"follows": "left"})})
    votes.close()
    database = sqlite3.connect(study.folder / FILE)
    with database:
        database.executescript(damage + ";")
    database.close()
    if damage.startswith("DROP"):
        assert study_report(study).raters == (), "the table is made again"
    else:
        with pytest.raises(LLMDiffError, match=r"votes\.sqlite cannot be used"):
            study_report(study)


def test_a_file_that_is_no_database_is_one_sentence(study: Study) -> None:
    (study.folder / FILE).write_bytes(b"no database" * 100)
    with pytest.raises(LLMDiffError, match=r"votes\.sqlite cannot be used"):
        study_app(study)


def test_many_raters_see_all_pairs_alike(study: Study) -> None:
    votes = Votes(study)
    shown = [0] * len(study.pairs)
    for number in range(300):
        for trial in votes.begin(f"{number:032x}"):
            if trial.kind == "pair":
                shown[trial.index] += 1
    assert max(shown) - min(shown) <= 1
    assert votes._counted == 299, "each is counted once, when the next one begins"
    votes.close()


def test_a_picture_that_is_gone_is_told_before_anyone_is_asked_and_is_no_failure_later(study: Study) -> None:
    client = TestClient(study_app(study))
    client.post("/api/session")
    for path in (study.folder / "pictures").iterdir():
        path.unlink()
    assert client.get("/picture/0/left").status_code == 404
    with pytest.raises(LLMDiffError, match="is missing"):
        study_app(study)
