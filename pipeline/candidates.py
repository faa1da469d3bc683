"""Versions as a refresh meets them: the one to beat, and the one that was trained."""

from datetime import UTC, datetime

from pipeline.config import RunFile
from pipeline.learning.gate import Decision
from pipeline.progress import Progress
from pipeline.registry.lineage import Lineage, Pointer, code_version
from pipeline.registry.registry import FOLDER, Registry
from pipeline.registry.resolve import model_source
from pipeline.storage.store import Store
from workers.finetune.records import FinetuneResult
from workers.models import keep_tower, local_folder, plan_model


def current_version(run: RunFile, store: Store, progress: Progress) -> Pointer:
    """Return the current version; where there is none, keep the run file's model as the first.

    Raises:
        ConfigError: nothing is current, and the run file names no model to begin with.
        ModelUnusableError: that model cannot be used.
        StorageError: the store failed.
        StoppedError: somebody else has made another version current just now.
    """
    registry = Registry(store)
    current = registry.current()
    if current:
        return current
    source = model_source(run.model, run.finetune.base, store)
    planned = plan_model(source, run.s3, run.pool.precision)
    if not registry.exists(planned.version):
        progress.say(f"keeping {planned.source} as version {planned.version}")
        registry.upload(local_folder(planned.source, run.s3), planned.version)
        keep_tower(planned, store, f"{FOLDER}/{planned.version}")
        now = datetime.now(UTC)
        registry.record(Lineage(planned.version, "", "", planned.source, code_version(), now))
    return registry.move(planned.version, "base", None)


def record_candidate(
    run: RunFile, registry: Registry, result: FinetuneResult, decision: Decision
) -> None:
    """Write down the lineage of what was trained, promoted or not.

    Raises:
        StorageError: the store failed.
    """
    plain = decision.to_json()
    lineage = Lineage(
        version=result.version,
        parent=result.start.rpartition("/")[2],
        snapshot=decision.snapshot,
        source="",
        code=code_version(),
        created_at=datetime.now(UTC),
        settings=run.finetune.model_dump(mode="json"),
        metrics=plain["metrics"]["candidate"],
        decision=plain,
    )
    if not registry.record(lineage):
        registry.judge_again(lineage)
