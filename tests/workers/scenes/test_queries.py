"""Queries: their answers hold in the scene, absent ones are denied with what is there."""

from collections import Counter
from dataclasses import replace

import pytest

from workers.scenes import EASY, HARD, Difficulty, Query, SceneObject
from workers.scenes.difficulty import is_held_out
from workers.scenes.phrases import USES
from workers.scenes.render import describe

SETTINGS = pytest.mark.parametrize("difficulty", [EASY, HARD], ids=["easy", "hard"])
Asked = list[tuple[tuple[SceneObject, ...], Query]]


def asked(difficulty: Difficulty, count: int = 60) -> Asked:
    scenes = (describe(21, index, difficulty) for index in range(count))
    return [(objects, query) for _, objects, queries in scenes for query in queries]


def named(difficulty: Difficulty, query: Query) -> tuple[set[str], set[str]]:
    words = query.text.rstrip("?.").split()
    singular = {word.removesuffix("s") for word in words} | {
        word.removesuffix("es") for word in words
    }
    words_and_singular = singular | set(words)
    return words_and_singular & set(difficulty.colors), words_and_singular & set(difficulty.shapes)


@SETTINGS
def test_a_quarter_or_more_of_the_queries_is_absent(difficulty: Difficulty) -> None:
    queries = [query for _, query in asked(difficulty, 120)]
    assert 0.25 <= sum(not query.present for query in queries) / len(queries) <= 0.38


@SETTINGS
def test_every_kind_is_asked_present_and_absent(difficulty: Difficulty) -> None:
    found = Counter((query.kind, query.present) for _, query in asked(difficulty, 250))
    assert set(found) == {
        (kind, present) for kind, _ in difficulty.kinds for present in (True, False)
    }


@SETTINGS
def test_targets_have_the_color_and_shape_that_are_named(difficulty: Difficulty) -> None:
    for objects, query in asked(difficulty):
        colors, shapes = named(difficulty, query)
        if query.present and query.kind not in {"relation", "reasoning"}:
            targets = [objects[number] for number in query.targets]
            assert all(item.color in colors for item in targets) or not colors
            assert all(item.shape in shapes for item in targets) or not shapes


@SETTINGS
def test_plain_queries_have_no_other_answer(difficulty: Difficulty) -> None:
    for objects, query in asked(difficulty):
        colors, shapes = named(difficulty, query)
        if query.kind in {"color", "shape", "color_shape", "count"}:
            fitting = [
                number
                for number, item in enumerate(objects)
                if (not colors or item.color in colors) and (not shapes or item.shape in shapes)
            ]
            assert tuple(fitting) == query.targets, query


def test_the_leftmost_lies_left_of_all_its_kind() -> None:
    for objects, query in asked(EASY, 150):
        if query.present and query.kind == "position" and "left" in query.text:
            colors, shapes = named(EASY, query)
            same = [
                item
                for item in objects
                if (not colors or item.color in colors) and (not shapes or item.shape in shapes)
            ]
            assert len(same) > 1
            assert objects[query.targets[0]].x == min(item.x for item in same)


def test_the_smallest_is_smaller_than_all_its_kind() -> None:
    for objects, query in asked(EASY, 150):
        if query.present and query.kind == "size" and "smallest" in query.text:
            _, shapes = named(EASY, query)
            areas = [item.area for item in objects if not shapes or item.shape in shapes]
            assert objects[query.targets[0]].area <= min(areas) or named(EASY, query)[0]


def test_relations_hold_between_the_two_objects() -> None:
    seen = 0
    for objects, query in asked(EASY, 250):
        if query.present and query.kind == "relation" and "above the " in query.text:
            anchor_name = query.text.split("above the ")[1].rstrip("?.").split(" in the")[0]
            anchor = next(item for item in objects if item.name == anchor_name)
            assert objects[query.targets[0]].y < anchor.y
            seen += 1
    assert seen


def test_reasoning_asks_for_what_the_shape_is_good_for() -> None:
    for objects, query in asked(EASY, 100):
        if query.kind == "reasoning":
            use = next(use for use in USES if use in query.text)
            fitting = [n for n, item in enumerate(objects) if item.shape in USES[use]]
            assert tuple(fitting) == query.targets


@SETTINGS
def test_denials_name_something_that_is_there(difficulty: Difficulty) -> None:
    corrected = 0
    for objects, query in asked(difficulty):
        assert query.present == (query.denial == "")
        if ", but there is " in query.denial:
            instead = query.denial.split(", but there is ")[1].rstrip(".").split(" ", 1)[1]
            assert instead in {item.name for item in objects}
            corrected += 1
    assert corrected


def test_hard_queries_name_only_attributes_that_others_share() -> None:
    for objects, query in asked(HARD, 200):
        least = 2 if query.present else 1
        colors, shapes = named(HARD, query)
        for color in colors:
            assert sum(item.color == color for item in objects) >= least, query
        for shape in shapes:
            assert sum(item.shape == shape for item in objects) >= least, query
        for use in (use for use in USES if use in query.text):
            assert sum(item.shape in USES[use] for item in objects) >= least, query


def test_hard_reasoning_needs_color_and_use() -> None:
    seen = set()
    for objects, query in asked(HARD, 300):
        if query.kind == "reasoning":
            use = next(use for use in USES if use in query.text)
            (color,) = named(HARD, query)[0]
            fitting = [
                number
                for number, item in enumerate(objects)
                if item.color == color and item.shape in USES[use]
            ]
            assert tuple(fitting) == query.targets
            seen.add(query.present)
    assert seen == {True, False}


def test_an_absent_relation_fails_by_the_relation_alone() -> None:
    seen = 0
    for objects, query in asked(HARD, 300):
        if query.kind == "relation" and not query.present and "above the " in query.text:
            anchor_name = query.text.split("above the ")[1].rstrip("?.").split(" in the")[0]
            anchor = next(item for item in objects if item.name == anchor_name)
            assert any(item.y > anchor.y for item in objects)
            seen += 1
    assert seen


def test_training_never_speaks_of_a_held_out_pair() -> None:
    for difficulty in (EASY, HARD):
        for _, query in asked(replace(difficulty, pairs="training"), 80):
            if query.kind in {"color_shape", "count"}:
                colors, shapes = named(difficulty, query)
                assert not any(
                    is_held_out(color, shape, difficulty) for color in colors for shape in shapes
                ), query


def test_distinct_queries_ask_for_other_objects_each() -> None:
    distinct = replace(EASY, distinct=True)
    for index in range(20):
        targets = [q.targets for q in describe(24, index, distinct)[2] if q.present]
        assert len(targets) == len(set(targets))


def test_no_text_is_asked_twice_about_a_scene() -> None:
    for index in range(40):
        texts = [query.text for query in describe(22, index, EASY)[2]]
        assert len(texts) == len(set(texts))
