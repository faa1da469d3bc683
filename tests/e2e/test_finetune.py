"""From corrections to a promoted model: refused, promoted, nothing new, killed half way."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import pytest
import ray
import yaml

from pipeline.config import RunFile, load_run_file
from pipeline.errors import StoppedError
from pipeline.learn import Learning
from pipeline.learning.gate import Decision
from pipeline.progress import Progress
from pipeline.registry.registry import Registry
from pipeline.registry.resolve import model_source
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import Store, open_store
from pipeline.storage.training_sets import TrainingSets
from tests.e2e.learnable import BETTER, TRAIN, whole_pictures, write_learnable
from workers.finetune.loop import read_result, train
from workers.finetune.parallel import World
from workers.finetune.records import FinetuneJob

if TYPE_CHECKING:
    from tests.e2e.conftest import Readloop


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"), S3Settings())


@pytest.fixture
def run_file(store: Store, tmp_path: Path, repository: Path) -> Path:
    """Eight small pictures of which people say that the whole of each is what was asked for."""
    CorrectionTable(store).append(whole_pictures(tmp_path / "photos", 8, store))
    return write_learnable(tmp_path, store, repository / "configs" / "models" / "tiny", TRAIN)


@pytest.fixture
def connected(ray_nodes: str) -> Iterator[None]:
    ray.init(ray_nodes, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def refresh(run: RunFile) -> Decision:
    return Learning(run, fresh=False, stop=Event(), progress=Progress()).learn()


def anew(run: RunFile) -> Decision:
    """Train and compare although there is nothing new."""
    return Learning(run, fresh=True, stop=Event(), progress=Progress()).learn()


def _since_first(decision: Decision) -> dict[str, float | None]:
    """Return what the model that learning began with came to, by guard."""
    return {
        guard.name: guard.incumbent
        for guard in decision.guards
        if guard.name.endswith("_since_first")
    }


def _with_gate(run: RunFile, **changes: object) -> RunFile:
    gate = run.finetune.gate.model_copy(update=changes)
    finetune = run.finetune.model_copy(update={"gate": gate})
    return run.model_copy(update={"finetune": finetune})


def _without_scenes(run_file: Path) -> RunFile:
    content = yaml.safe_load(run_file.read_text())
    content["finetune"]["data"]["replay"] = {"scenes": None}
    content["finetune"]["train"] = TRAIN
    run_file.write_text(yaml.safe_dump(content))
    return load_run_file(run_file)


def _lost() -> None:
    raise StoppedError("this refresh has lost its lease")


@pytest.mark.usefixtures("connected")
def test_refused_then_promoted_then_nothing_new_then_compared_with_the_first_model_too(
    store: Store, run_file: Path, tmp_path: Path, repository: Path
) -> None:
    run = load_run_file(run_file)
    refused = refresh(run)
    registry = Registry(store)
    base = registry.current()
    assert base
    assert (base.kind, refused.incumbent, refused.promoted) == ("base", base.version, False)
    assert "not above 0" in refused.reasons[0]
    lineage = registry.lineage(refused.candidate)
    assert (lineage.parent, lineage.snapshot) == (base.version, refused.snapshot)
    assert lineage.decision["reasons"] == list(refused.reasons)

    again = refresh(run)
    assert replace(again, seconds=0) == replace(refused, seconds=0)
    assert len(registry.lineages()) == 2

    judged = refresh(_with_gate(run, metric="giou"))
    assert (judged.candidate, judged.metrics) == (refused.candidate, refused.metrics)
    assert "over all queries" in judged.reasons[0]
    assert registry.lineage(judged.candidate).decision["reasons"] == list(judged.reasons)

    better = write_learnable(tmp_path, store, repository / "configs" / "models" / "tiny", BETTER)
    with pytest.raises(StoppedError, match="lost its lease"):
        Learning(
            load_run_file(better), fresh=False, stop=Event(), progress=Progress(), check=_lost
        ).learn()
    assert registry.current() == base

    promoted = refresh(load_run_file(better))
    assert promoted.promoted, promoted.reasons
    assert promoted.gain_ci[0] > 0
    current = registry.current()
    assert current
    assert (current.version, current.kind) == (promoted.candidate, "promote")
    assert model_source("registry", None, store).endswith(promoted.candidate)
    assert promoted.metrics["candidate"]["holdout"]["iou"] == pytest.approx(
        promoted.metrics["incumbent"]["holdout"]["iou"] + promoted.gain
    )

    nothing = refresh(load_run_file(better))
    assert replace(nothing, seconds=0) == replace(promoted, seconds=0)
    assert len(registry.lineages()) == 3

    began = promoted.metrics["incumbent"]
    third = anew(run)
    assert third.incumbent == promoted.candidate
    assert _since_first(third) == {
        "replay_iou_since_first": pytest.approx(began["replay"]["iou"]),
        "replay_denied_since_first": pytest.approx(began["replay"]["denied"]),
        "dialogue_loss_since_first": pytest.approx(began["dialogue_loss"]),
    }
    assert _since_first(anew(_without_scenes(run_file))) == {
        "replay_iou_since_first": None,
        "replay_denied_since_first": None,
        "dialogue_loss_since_first": pytest.approx(began["dialogue_loss"]),
    }


def test_a_killed_command_goes_on_and_ends_with_the_weights_of_an_undisturbed_one(
    readloop: "Readloop", store: Store, run_file: Path
) -> None:
    content = yaml.safe_load(run_file.read_text())
    content["finetune"]["train"]["steps"] = 8
    run_file.write_text(yaml.safe_dump(content))
    killed = readloop.start("finetune", run_file, "--json")
    _wait_for_states(store, 2)
    killed.kill()
    killed.communicate(timeout=60)
    assert store.address.local
    assert not list(store.address.local.glob("training/*/result.json"))

    done = readloop("finetune", run_file, "--json")
    assert done.code == 0, done.stderr
    assert "going on with snapshot" in done.stderr
    assert done.result
    assert done.result.keys() == {
        *("snapshot", "candidate", "incumbent", "metrics", "gain", "gain_ci"),
        *("guards", "promoted", "reasons", "seconds"),
    }
    calm = FinetuneJob(
        store=store.uri,
        s3=store.s3,
        limits=load_run_file(run_file).limits,
        folder="training/calm",
        snapshot=done.result["snapshot"],
        start=Registry(store).weights(done.result["incumbent"]),
        models="models",
        settings=load_run_file(run_file).finetune.train,
    )
    train(calm, World(), lambda _: None)
    result = read_result(store, "training/calm")
    assert result
    assert result.version == done.result["candidate"]
    assert [manifest.number for manifest in TrainingSets(store).manifests()] == [1]


def _wait_for_states(store: Store, count: int) -> None:
    assert store.address.local
    for _ in range(6000):
        if len(list(store.address.local.glob("training/*/states/*.pt"))) >= count:
            return
        time.sleep(0.05)
    pytest.fail("the training wrote no states")
