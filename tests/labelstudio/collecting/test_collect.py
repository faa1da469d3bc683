"""Collecting from a real server: nothing missed and nothing twice."""

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from labelstudio.client import LabelStudioClient
from labelstudio.collecting import collect as collect_module
from labelstudio.collecting.collect import Tally
from labelstudio.server import LabelStudioServer
from pipeline.errors import LabelStudioError, StoppedError
from pipeline.records import Prediction
from pipeline.review.policy import agreement, training_corrections
from pipeline.storage.corrections import CorrectionTable

pytestmark = pytest.mark.labelstudio

Make = Callable[..., Prediction]
Json = dict[str, Any]


class Killed(BaseException):
    """What a kill looks like from inside: nothing after it runs."""


def images_of(prediction: Make, count: int) -> list[list[Prediction]]:
    names = [f"{i}.png" for i in range(count)]
    return [
        [prediction("road", name=name), prediction("sky", name=name, present=False)]
        for name in names
    ]


def counts(tally: Tally) -> tuple[int, int, int]:
    return tally.new, tally.updated, tally.deleted


def erased(task: Json) -> list[Json]:
    """Return the regions of a task without its masks and points."""
    regions = task["predictions"][0]["result"]
    return [region for region in regions if region["type"] == "choices"]


def test_what_people_submitted_arrives_once(office: Any, prediction: Make) -> None:
    images = images_of(prediction, 3)
    office.publish(images)
    first, second, _ = office.tasks()
    office.submit(first)
    office.submit(second, result=erased(second))
    tally = office.collect()
    assert counts(tally) == (4, 0, 0)
    assert tally.verdicts == {"accepted": 3, "absent": 1}
    by_key = {row.key: row for row in office.rows()}
    road = by_key[images[0][0].key]
    assert (road.mask, road.verdict, road.seconds) == (images[0][0].mask, "accepted", 4)
    assert (road.task, road.image, road.annotator) == (first["id"], images[0][0].image, "1")
    assert counts(office.collect()) == (0, 0, 0)


def test_before_anybody_worked_there_is_nothing(office: Any, prediction: Make) -> None:
    office.publish(images_of(prediction, 2))
    assert counts(office.collect()) == (0, 0, 0)


def test_drafts_do_not_count_until_submitted(office: Any, prediction: Make) -> None:
    office.publish(images_of(prediction, 1))
    (task,) = office.tasks()
    regions = task["predictions"][0]["result"]
    draft = office.call("POST", f"/api/tasks/{task['id']}/drafts", {"result": regions})
    assert counts(office.collect()) == (0, 0, 0)
    annotation = office.submit(task, draft_id=draft["id"])
    assert counts(office.collect()) == (2, 0, 0)
    path = f"/api/tasks/{task['id']}/annotations/{annotation}/drafts"
    office.call("POST", path, {"result": erased(task)})
    assert counts(office.collect()) == (0, 0, 0)
    assert office.verdicts() == ["accepted", "accepted"]


def test_resubmissions_are_revisions(office: Any, prediction: Make) -> None:
    office.publish(images_of(prediction, 1))
    (task,) = office.tasks()
    annotation = office.submit(task)
    office.collect()
    office.change(annotation, result=erased(task), lead_time=20.0)
    assert counts(office.collect()) == (0, 2, 0)
    assert office.verdicts() == ["absent", "accepted"]
    assert {row.seconds for row in office.rows()} == {10}
    assert len(office.rows()) == 2


def test_skips_arrive_and_can_be_taken_back(office: Any, prediction: Make) -> None:
    office.publish(images_of(prediction, 1))
    (task,) = office.tasks()
    annotation = office.submit(task, was_cancelled=True)
    assert office.collect().verdicts == {"skipped": 2}
    assert training_corrections(office.rows()) == []
    office.change(annotation, was_cancelled=False)
    assert counts(office.collect()) == (0, 2, 0)
    assert office.verdicts() == ["accepted", "accepted"]


@pytest.mark.parametrize("how", ["annotation", "task", "all annotations", "while another stays"])
def test_deletions_are_noticed(office: Any, prediction: Make, how: str) -> None:
    office.publish(images_of(prediction, 2))
    first, second = office.tasks()
    annotation = office.submit(first)
    office.submit(second)
    if how == "while another stays":
        office.submit(first)
    office.collect()
    if how == "task":
        office.call("DELETE", f"/api/tasks/{first['id']}/")
    elif how == "all annotations":
        project = office.street.project().id
        chosen = {"selectedItems": {"all": False, "included": [first["id"]]}}
        action = f"/api/dm/actions?id=delete_tasks_annotations&project={project}"
        office.call("POST", action, chosen)
    else:
        office.delete(annotation)
    assert counts(office.collect()) == (0, 0, 2)
    alive = 4 if how == "while another stays" else 2
    assert office.verdicts() == ["accepted"] * alive + ["deleted"] * 2
    gone = [row for row in office.rows() if row.verdict == "deleted"]
    assert {row.annotation for row in gone} == {annotation}
    assert counts(office.collect()) == (0, 0, 0)


def test_deleted_and_submitted_again_is_another_correction(office: Any, prediction: Make) -> None:
    office.publish(images_of(prediction, 1))
    (task,) = office.tasks()
    office.delete(office.submit(task))
    again = office.submit(task)
    assert counts(office.collect()) == (2, 0, 0)
    office.delete(again)
    office.submit(task)
    assert counts(office.collect()) == (2, 0, 2)


def test_two_annotators_are_told_apart(office: Any, prediction: Make) -> None:
    office.publish(images_of(prediction, 1))
    (task,) = office.tasks()
    name = f"{secrets.token_hex(4)}@localhost.invalid"
    other = office.call("POST", "/api/users/", {"email": name, "username": name})["id"]
    office.submit(task)
    office.submit(task, completed_by=other, result=erased(task))
    assert counts(office.collect()) == (4, 0, 0)
    rows = list(CorrectionTable(office.store).shared())
    assert len(rows) == 4
    found = agreement(rows)
    assert (found.queries, found.pairs, found.iou, found.presence) == (2, 2, 0.5, 0.5)
    assert {row.annotator for row in training_corrections(rows)} == {str(other)}


@pytest.mark.parametrize("when", ["before the commit", "before the marker"])
def test_killed_between_fetch_and_marker_nothing_is_lost_or_doubled(
    office: Any, prediction: Make, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(collect_module, "OVERLAP", timedelta(0))
    office.publish(images_of(prediction, 3))
    tasks = office.tasks()
    for task in tasks:
        office.submit(task)
    with monkeypatch.context() as patch:
        if when == "before the commit":
            patch.setattr(CorrectionTable, "append", die)
        else:
            patch.setattr(collect_module, "write_marker", die)
        with pytest.raises(Killed):
            office.collect()
    expected = 6 if when == "before the commit" else 0
    assert counts(office.collect()) == (expected, 0, 0)
    assert len(office.rows()) == 6
    assert CorrectionTable(office.store).version == 1


def test_edits_while_polling_are_not_missed(
    office: Any, prediction: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect_module, "OVERLAP", timedelta(0))
    office.publish(images_of(prediction, 3))
    first, second, third = office.tasks()
    numbers = [office.submit(first), office.submit(second)]
    read = LabelStudioClient.annotation
    edits = [
        lambda: office.change(numbers[0], result=erased(first)),
        lambda: office.submit(third),
    ]

    def read_and_edit(self: LabelStudioClient, number: int) -> Json | None:
        found = read(self, number)
        if edits:
            edits.pop(0)()
        return found

    monkeypatch.setattr(LabelStudioClient, "annotation", read_and_edit)
    collector, tally = office.collector(), Tally()
    collector.poll(tally)
    collector.poll(tally)
    assert (tally.new, tally.deleted) == (6, 0)
    assert office.verdicts() == ["absent", *["accepted"] * 5]


def test_an_annotation_that_goes_between_list_and_read_is_no_error(
    office: Any, prediction: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.publish(images_of(prediction, 2))
    first, second = office.tasks()
    doomed = office.submit(first)
    office.submit(second)
    read = LabelStudioClient.annotation

    def delete_and_read(self: LabelStudioClient, number: int) -> Json | None:
        if number == doomed:
            office.delete(number)
        return read(self, number)

    monkeypatch.setattr(LabelStudioClient, "annotation", delete_and_read)
    assert counts(office.collect()) == (2, 0, 0)
    assert counts(office.collect()) == (0, 0, 0)


def test_a_watching_collector_reads_a_task_again_only_when_it_changed(
    office: Any, prediction: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.publish(images_of(prediction, 2))
    first, second = office.tasks()
    kept, changed = office.submit(first), office.submit(second)
    collector, tally, read = office.collector(), Tally(), LabelStudioClient.annotation
    collector.poll(tally)
    numbers: list[int] = []

    def note_and_read(self: LabelStudioClient, number: int) -> Json | None:
        numbers.append(number)
        return read(self, number)

    monkeypatch.setattr(LabelStudioClient, "annotation", note_and_read)
    collector.poll(tally)
    assert numbers == []
    office.change(changed, result=erased(second))
    collector.poll(tally)
    assert numbers == [changed]
    assert kept not in numbers
    assert counts(tally) == (4, 2, 0)


def test_what_was_missed_is_found_by_counting(office: Any, prediction: Make) -> None:
    """A marker from the future, as after a server's clock was set back."""
    office.publish(images_of(prediction, 2))
    first, second = office.tasks()
    office.submit(first)
    office.collect()
    (path,) = (Path(office.street.folder) / "collected").glob("*.json")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"updated_at": "20', '"updated_at": "21'), encoding="utf-8")
    office.submit(second)
    assert counts(office.collect()) == (2, 0, 0)
    path.write_text("no marker", encoding="utf-8")
    assert counts(office.collect()) == (0, 0, 0)


def test_work_on_an_older_version_refers_to_it(office: Any, prediction: Make) -> None:
    old = images_of(prediction, 1)
    office.publish(old)
    (task,) = office.tasks()
    new = [[replace(row, key=f"2 {row.key}", model_version="tiny@2") for row in old[0]]]
    office.publish(new)
    office.submit(task)
    office.collect()
    assert {row.model_version for row in office.rows()} == {"tiny@1"}
    assert {row.key for row in office.rows()} == {row.key for row in old[0]}
    assert office.verdicts() == ["accepted", "accepted"]


def test_foreign_tasks_are_left_alone(office: Any, prediction: Make) -> None:
    office.publish(images_of(prediction, 1))
    project = office.street.project().id
    foreign = {"image": "http://169.254.169.254/latest", "key": "another's", "texts": {}}
    made = office.call("POST", "/api/tasks/", {"project": project, "data": foreign})
    office.submit({"id": made["id"], "predictions": []})
    office.submit(office.tasks()[0])
    assert counts(office.collect()) == (2, 0, 0)
    assert counts(office.collect()) == (0, 0, 0)


def test_an_unreadable_annotation_is_named_and_tried_again(office: Any, prediction: Make) -> None:
    office.publish(images_of(prediction, 2))
    first, second = office.tasks()
    office.submit(second)
    regions = [dict(region) for region in first["predictions"][0]["result"]]
    mask = next(region for region in regions if region["type"] == "brushlabels")
    broken = {**mask, "value": {**mask["value"], "rle": [1, 2, 3]}}
    annotation = office.submit(first, result=[broken])
    for _ in range(2):
        tally = office.collect()
        assert len(tally.failures) == 1
        assert f"annotation {annotation} on task {first['id']}" in tally.failures[0]
    office.change(annotation, result=regions)
    tally = office.collect()
    assert (counts(tally), tally.failures) == ((2, 0, 0), [])
    assert office.verdicts() == ["accepted"] * 4


def test_a_project_made_anew_keeps_the_old_work(office: Any, prediction: Make) -> None:
    images = images_of(prediction, 1)
    office.publish(images)
    office.submit(office.tasks()[0])
    office.collect()
    office.call("DELETE", f"/api/projects/{office.street.project().id}/")
    office.street.publish(images)
    office.submit(office.tasks()[0], result=erased(office.tasks()[0]))
    assert counts(office.collect()) == (2, 0, 0)
    assert office.verdicts() == ["absent", *["accepted"] * 3]


def test_all_projects_of_a_run_are_collected(office: Any, prediction: Make) -> None:
    images = images_of(prediction, 3)
    office.publish(images[:2])
    second = f"{office.street.settings.project} 2"
    office.publish(
        images[2:], settings=office.street.settings.model_copy(update={"project": second})
    )
    for task in office.tasks():
        office.submit(task)
    tally = office.collect()
    assert (len(tally.projects), tally.new) == (2, 6)


def test_another_writer_is_noticed(office: Any, prediction: Make) -> None:
    office.publish(images_of(prediction, 1))
    office.submit(office.tasks()[0])
    collector = office.collector()
    waiting = CorrectionTable(office.store)
    collector.poll(Tally())
    with pytest.raises(StoppedError, match="another run"):
        waiting.append([replace(row, id="a-b-c") for row in office.rows()])
    office.submit(office.tasks()[0])
    CorrectionTable(office.store).append([replace(office.rows()[0], id="a-b-c")])
    tally = Tally()
    collector.poll(tally)
    assert tally.new == 2


def test_a_restarted_server_is_gone_and_back(
    label_studio_data: Callable[[], Path], prediction: Make, office: Any
) -> None:
    data = label_studio_data()
    with LabelStudioServer(data, document_root=Path("/")) as server:
        port = int(server.url.rpartition(":")[2])
        office = office.at(server, "restarted")
        office.publish(images_of(prediction, 2))
        first, second = office.tasks()
        office.submit(first)
        collector, tally = office.collector(), Tally()
        collector.poll(tally)
    with pytest.raises(LabelStudioError, match="cannot be reached"):
        collector.poll(tally)
    with LabelStudioServer(data, document_root=Path("/"), port=port):
        office.submit(second)
        collector.poll(tally)
        collector.poll(tally)
    assert counts(tally) == (4, 0, 0)
    assert len(office.rows()) == 4
