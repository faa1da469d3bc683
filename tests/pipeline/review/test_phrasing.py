"""Rewordings, the choice among them, and the change to the run file."""

import numpy as np
import pytest
import yaml

from pipeline.errors import ConfigError
from pipeline.review.edits import diff, reworded
from pipeline.review.phrasing import Answered, choose_wording
from pipeline.review.wordings import variations

RUN = """\
# a street
source:
  images: photos   # here
  queries:
    - {label: road, text: the road}  # asphalt
    - label: car
      text: "a car: parked"
"""


@pytest.mark.parametrize(
    ("text", "some"),
    [
        ("the red circle", ["red circle", "all the red circles", "Where is the red circle?"]),
        ("cars", ["car", "the cars", "every car"]),
        ("a car that is parked", ["the cars that is parked", "car that is parked"]),
        ("Where are the trees?", ["tree", "trees", "all the trees", "Where is the tree?"]),
        ("an apple", ["apple", "the apple", "apples"]),
    ],
)
def test_variations_change_article_number_and_form(text: str, some: list[str]) -> None:
    found = variations(text)
    assert set(some) <= set(found)
    assert text not in found
    assert len(found) == len(set(found)) <= 11


def test_a_sentence_of_an_unknown_kind_has_no_variations() -> None:
    assert variations("Which of these could roll away?") == []
    assert variations("") == []


def answered(count: int, **means: float) -> list[Answered]:
    random = np.random.default_rng(0)
    return [
        Answered(
            str(n),
            str(n),
            {text: float(np.clip(random.normal(mean, 0.1), 0, 1)) for text, mean in means.items()},
        )
        for n in range(count)
    ]


def test_the_better_wording_wins_and_its_gain_is_told_from_other_images() -> None:
    rows = answered(60, old=0.4, new=0.6, worse=0.2)
    found = choose_wording("road", "old", rows, failed=2)
    assert [score.text for score in found.tried] == ["new", "old", "worse"]
    assert (found.after, found.chosen_on, found.judged, found.failed) == ("new", 30, 30, 2)
    assert found.gain == pytest.approx(0.2, abs=0.06)
    assert found.gain_ci[0] < found.gain < found.gain_ci[1]
    assert found.better


def test_luck_is_no_gain() -> None:
    """Of twelve equal wordings the winner is no better on other images, in most draws."""
    wrongly = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        rows = [
            Answered(f"{seed} {n}", f"{seed} {n}", {str(w): random.random() for w in range(12)})
            for n in range(40)
        ]
        found = choose_wording("road", "0", rows, failed=0)
        wrongly += found.better
        assert found.tried[0].iou >= max(score.iou for score in found.tried)
    assert wrongly <= 9


def test_of_equal_wordings_the_present_one_stays() -> None:
    rows = [Answered(str(n), str(n), {"new": 0.5, "old": 0.5}) for n in range(20)]
    found = choose_wording("road", "old", rows, failed=0)
    assert found.after == "old"
    assert not found.better


def test_groups_are_not_torn() -> None:
    rows = [Answered(str(n), str(n // 5), {"old": 0.5, "new": n // 5 / 10}) for n in range(40)]
    found = choose_wording("road", "old", rows, failed=0)
    assert found.chosen_on % 5 == found.judged % 5 == 0


def test_only_the_text_of_the_query_changes() -> None:
    changes = {"the road": "all the roads", "a car: parked": "cars, \"all\": 'every'"}
    after = reworded(RUN, "run.yaml", changes)
    assert "# a street" in after
    assert "- {label: road, text: all the roads}  # asphalt" in after
    texts = [query["text"] for query in yaml.safe_load(after)["source"]["queries"]]
    assert texts == list(changes.values())
    assert diff(RUN, after, "run.yaml").count("\n+ ") == 2


@pytest.mark.parametrize("text", ["yes", "a, b}", "12", "x: y", "# z", "ü", ""])
def test_texts_that_mean_something_in_yaml_are_quoted(text: str) -> None:
    after = reworded(RUN, "run.yaml", {"the road": text})
    assert yaml.safe_load(after)["source"]["queries"][0]["text"] == text


def test_a_text_that_is_not_there_or_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml: .*0 times"):
        reworded(RUN, "run.yaml", {"the sky": "sky"})
    twice = RUN + "    - {label: lane, text: the road}\n"
    with pytest.raises(ConfigError, match="2 times"):
        reworded(twice, "run.yaml", {"the road": "road"})
