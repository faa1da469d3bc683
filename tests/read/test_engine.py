"""The engine: queries in, answers out; none depends on the others."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from workers.read.engine import Answer, ReadEngine, stability
from workers.read.errors import QueryError
from workers.read.model import ReadModel
from workers.read.tokenizer import ReadTokenizer

Talker = Callable[[Sequence[int]], ReadModel]
QUERIES = ("the red car", "a dog", "Who is about to leave?")


def one(result: Answer | QueryError) -> Answer:
    assert isinstance(result, Answer)
    return result


def test_several_queries_give_exactly_what_each_gives_alone(
    engine: ReadEngine, picture: np.ndarray
) -> None:
    together = [one(result) for result in engine.predict(picture, QUERIES)]
    for query, answer in zip(QUERIES, together, strict=True):
        alone = one(engine.predict(picture, [query])[0])
        assert (alone.text, alone.seg_probability) == (answer.text, answer.seg_probability)
        for got, wanted in zip(answer.segments, alone.segments, strict=True):
            for field in ("query_vector", "similarity", "points_xy", "point_labels", "mask"):
                np.testing.assert_array_equal(getattr(got, field), getattr(wanted, field))
    assert together[0].segments[0].query_vector.tolist() != (
        together[1].segments[0].query_vector.tolist()
    )


def test_an_image_is_encoded_once_for_all_queries(engine: ReadEngine, picture: np.ndarray) -> None:
    calls = []
    for module in (engine.model.clip, engine.model.sam.image_encoder):
        module.register_forward_hook(lambda *_: calls.append(1))
    engine.predict(picture, QUERIES)
    assert len(calls) == 2


def test_an_answer_holds_everything_about_its_segment(
    engine: ReadEngine, picture: np.ndarray
) -> None:
    answer = one(engine.predict(picture, QUERIES)[0])
    (segment,) = answer.segments
    assert "[SEG]" in answer.text
    assert answer.present == segment.mask.any()
    assert answer.seg_probability == segment.probability
    assert segment.mask.shape == (60, 90)
    assert segment.mask.dtype == np.bool_
    assert segment.similarity.shape == (8, 8)
    assert segment.query_vector.shape == (64,)
    assert len(segment.points_xy) == len(segment.point_labels) == len(segment.point_similarity)
    assert set(segment.point_labels.tolist()) <= {1, 0, -1}
    assert segment.points_xy.max(axis=0).tolist() <= [90, 60]
    assert 0 <= segment.stability <= 1


def test_a_bad_query_fails_alone(engine: ReadEngine, picture: np.ndarray) -> None:
    bad = ["", "x" * 3000, "the <image>", "word " * 300]
    results = engine.predict(picture, [*bad, "a dog"])
    assert [type(result) for result in results] == [QueryError] * 4 + [Answer]
    alone = one(engine.predict(picture, ["a dog"])[0])
    np.testing.assert_array_equal(one(results[-1]).segments[0].mask, alone.segments[0].mask)


def test_only_bad_queries_or_none_need_no_image(engine: ReadEngine) -> None:
    assert [str(error) for error in engine.predict(np.zeros((0, 0, 3), np.uint8), [""])] == [
        "the query is empty; write a phrase or a question"
    ]
    assert engine.predict(np.zeros((0, 0, 3), np.uint8), []) == []


def test_no_seg_means_absent(talker: Talker, tokenizer: ReadTokenizer, picture: np.ndarray) -> None:
    engine = ReadEngine(talker([40, tokenizer.eos_id]), tokenizer, "v1", "float32")
    answer = one(engine.predict(picture, ["a dog"])[0])
    assert not answer.present
    assert answer.segments == ()
    assert 0 < answer.seg_probability < 0.5


def test_an_empty_mask_means_absent(engine: ReadEngine, picture: np.ndarray) -> None:
    upscale = engine.model.sam.upscale
    engine.model.sam.upscale = lambda *args: upscale(*args).abs().neg()  # type: ignore[method-assign]
    answer = one(engine.predict(picture, ["a dog"])[0])
    assert len(answer.segments) == 1
    assert not answer.present


def test_without_sasp_there_are_masks_but_no_points(
    engine: ReadEngine, picture: np.ndarray
) -> None:
    engine.model.settings = replace(engine.model.settings, sasp=None)
    (segment,) = one(engine.predict(picture, ["a dog"])[0]).segments
    assert segment.points_xy.shape == (0, 2)
    assert segment.point_labels.shape == segment.point_similarity.shape == (0,)
    assert segment.mask.shape == (60, 90)


def test_several_segs_mean_several_masks(
    talker: Talker, tokenizer: ReadTokenizer, picture: np.ndarray
) -> None:
    seg = tokenizer.seg_id
    engine = ReadEngine(talker([seg, seg]), tokenizer, "v1", "float32")
    assert len(one(engine.predict(picture, ["a dog"])[0]).segments) == 8


def test_stability_is_the_overlap_of_a_strict_and_a_lax_mask() -> None:
    logits = torch.tensor([[2.0, 0.5, -0.5, -2.0]])
    assert stability(logits) == pytest.approx(1 / 3)
    assert stability(logits - 10) == 0.0
    assert stability(torch.ones(2, 40_000) * 5) == 1.0


def test_an_engine_says_what_changes_its_results(tiny_folder: Path) -> None:
    engine = ReadEngine.load(tiny_folder, "bfloat16")
    assert engine.model.dtype == torch.bfloat16
    assert len(engine.version) == 16
    settings = json.loads(engine.settings_json)
    assert settings["precision"] == "bfloat16"
    assert settings["sasp"]["num_points"] == 30
    assert engine.settings_json != ReadEngine.load(tiny_folder).settings_json


def test_seconds_are_counted_where_they_are_spent(engine: ReadEngine, picture: np.ndarray) -> None:
    seconds = [one(result).seconds for result in engine.predict(picture, QUERIES)]
    assert seconds[0].encode == seconds[1].encode > 0
    assert all(each.answer > 0 and each.mask > 0 for each in seconds)
