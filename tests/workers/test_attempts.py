"""Counting what was begun and never finished."""

from workers.attempts import AttemptBook


def test_what_is_finished_starts_from_one_again() -> None:
    book = AttemptBook(patience=10)
    assert [book.begin("a").number, book.begin("a").number] == [1, 2]
    book.finish("a")
    assert book.begin("a").number == 1


def test_the_reason_of_the_last_end_is_told() -> None:
    book = AttemptBook(patience=10)
    book.begin("a")
    book.explain("a", "CUDA error")
    assert book.begin("a").reason == "CUDA error"


def test_repeats_with_nothing_finished_in_between_are_hopeless() -> None:
    book = AttemptBook(patience=2)
    attempts = [book.begin("a") for _ in range(4)]
    assert [attempt.hopeless for attempt in attempts] == [False, False, False, True]
    book.finish("b")
    assert not book.begin("a").hopeless
