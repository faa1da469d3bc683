"""Which model learning begins with."""

from pathlib import Path

from pipeline.candidates import current_version
from pipeline.config import RunFile
from pipeline.progress import Progress
from pipeline.registry.registry import Registry
from pipeline.storage.store import Store


def run(store: Store, model: str, base: str) -> RunFile:
    return RunFile.model_validate(
        {
            "name": "test",
            "store": store.uri,
            "source": {"images": "photos"},
            "model": model,
            "finetune": {"base": base},
        }
    )


def test_a_model_that_is_named_outranks_the_base(store: Store, repository: Path) -> None:
    tiny = str(repository / "configs" / "models" / "tiny")
    pointer = current_version(run(store, tiny, "no/such/model"), store, Progress())
    assert Registry(store).lineage(pointer.version).source == tiny


def test_the_base_is_what_the_registry_begins_with(store: Store, repository: Path) -> None:
    tiny = str(repository / "configs" / "models" / "tiny")
    pointer = current_version(run(store, "registry", tiny), store, Progress())
    assert (pointer.kind, pointer.number) == ("base", 1)
    assert Registry(store).lineage(pointer.version).source == tiny
