import json
import re
from pathlib import Path

import pytest

from llmdiff.errors import LLMDiffError
from llmdiff.study import Study, collect_answers, export_page
from llmdiff.study.votes import Votes
from study.pictures import make_study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return make_study(tmp_path, "red", "blue", count=6, trials=4)


def answers(of: Study, by: str = "a" * 32, **changes: object) -> dict[str, object]:
    """What the page saves: five trials, of which one is a repeat and one a check."""
    seen = [(0, False), (3, True), (len(of.pairs), False), (0, True)]
    return {
        "format": 1,
        "study": of.identity,
        "rater": by,
        "trials": [{"item": item, "flipped": flipped} for item, flipped in seen],
 "votes": {
            "0": {"answers": {"follows": "left"}, "milliseconds": 900},
            "3": {"answers": {"better": "equal"}, "milliseconds": 5},
        },
    } | changes  # fmt: skip


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_page_has_all_pictures_and_no_names(study: Study, tmp_path: Path) -> None:
    export_page(study, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png;base64,") == 2 * (len(study.pairs) + len(study.checks))
    assert not re.search(r"\b(red|blue)\b", page)
    assert page.count("</script>") == 2, "nothing in a prompt ends a script"
    names = [shown.picture for pair in study.pairs for shown in pair.pictures]
    assert not any(name in page for name in names)
    assert not re.search(r"https?://", page), "it needs no network"


def test_answers_are_votes_in_the_words_of_the_study(study: Study, tmp_path: Path) -> None:
    assert collect_answers(study, [write(tmp_path / "a.json", answers(study))]) == 1
    votes = Votes(study)
    first, again = votes.all()
    votes.close()
    assert (first.trial.kind, first.trial.index, first.question, first.answer) == ("pair", 0, "follows", "left")
    assert (again.trial.kind, again.trial.flipped, again.question, again.answer) == ("repeat", True, "better", "equal")


def test_the_same_file_counts_once(study: Study, tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", answers(study))
    collect_answers(study, [file, file])
    collect_answers(study, [file])
    votes = Votes(study)
    assert len(votes.all()) == 2
    votes.close()


@pytest.mark.parametrize(
    "change",
    [
        {"study": "0" * 16},
        {"rater": "../../x"},
        {"format": 2},
        {"trials": [{"item": 10**6, "flipped": False}]},
        {"trials": [{"item": -1, "flipped": False}]},
        {"votes": {"77": {"answers": {"follows": "left"}, "milliseconds": 1}}},
        {"votes": {"0": {"answers": {"follows": "red"}, "milliseconds": 1}}},
        {"votes": {"0": {"answers": {"follows": "left"}, "milliseconds": -1}}},
        {"votes": []},
        {"more": 1},
    ],
)
def test_a_file_that_is_no_answer_adds_nothing(study: Study, tmp_path: Path, change: dict[str, object]) -> None:
    good = write(tmp_path / "good.json", answers(study))
    bad = write(tmp_path / "bad.json", answers(study, "b" * 32, **change))
    with pytest.raises(LLMDiffError, match=r"bad\.json"):
        collect_answers(study, [good, bad])
    votes = Votes(study)
    assert votes.all() == []
    votes.close()


@pytest.mark.parametrize("content", ["", "[]", "{", '"a"', "null", "[" * 500])
def test_any_other_file_is_refused_in_a_sentence(study: Study, tmp_path: Path, content: str) -> None:
    with pytest.raises(LLMDiffError, match=r"x\.json"):
        collect_answers(study, [write(tmp_path / "x.json", content)])


def test_another_order_by_the_same_rater_is_not_taken_for_the_first(study: Study, tmp_path: Path) -> None:
    first = answers(study)
    other = answers(study, trials=[{"item": 1, "flipped": False}] * 9, votes={})
    other["votes"] = {"8": {"answers": {"follows": "left"}, "milliseconds": 1}}
    collect_answers(study, [write(tmp_path / "a.json", first)])
    for files in ([write(tmp_path / "b.json", other)], [tmp_path / "a.json", tmp_path / "b.json"]):
        with pytest.raises(LLMDiffError, match=r"b\.json is of a rater who was shown something else"):
            collect_answers(study, files)
    votes = Votes(study)
    assert len(votes.all()) == 2
    votes.close()


def test_a_page_is_not_written_without_all_pictures(study: Study, tmp_path: Path) -> None:
    study.picture(study.pairs[0].pictures[0].picture).unlink()
    with pytest.raises(LLMDiffError, match="is missing: restore it"):
        export_page(study, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
