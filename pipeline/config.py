"""The run file: what to label, with which model, where results go. Unknown keys are errors."""

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from labelstudio.settings import LabelStudioSettings
from pipeline.errors import ConfigError
from pipeline.exchange.settings import ExclusiveGroups
from pipeline.learning.settings import DataSettings, GateSettings
from pipeline.refreshing.settings import RefreshSettings
from pipeline.review.settings import ReviewSettings
from pipeline.settings import Settings
from pipeline.sources.settings import SourceSettings
from pipeline.storage.settings import S3Settings
from workers.finetune.settings import TrainSettings
from workers.serve.settings import ServeSettings
from workers.settings import LimitSettings, PoolSettings

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class FinetuneSettings(Settings):
    """How corrections become a model; ``docs/learning.md`` describes the parts.

    ``base`` is the model to begin with where ``model`` is ``registry`` and nothing is current.
    ``start`` is what each training goes on from: the ``current`` version, or the ``first`` one.
    """

    base: str | None = None
    start: Literal["current", "first"] = "current"
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings()
    gate: GateSettings = GateSettings()

    @model_validator(mode="after")
    def _first_has_learned_nothing(self) -> Self:
        if self.start == "first" and self.data.replay.earlier < 1:
            raise ValueError(
                "start: first begins with a model that has learned nothing of the earlier rows; "
                "leave data.replay.earlier at 1"
            )
        return self


class RunFile(Settings):
    """One labelling run, as written in ``RUN.yaml``.

    ``model`` is a folder, ``s3://`` address or hub id, or ``registry``: the current version there.
    """

    name: Name
    store: str
    source: SourceSettings
    model: str
    pool: PoolSettings = PoolSettings()
    limits: LimitSettings = LimitSettings()
    labelstudio: LabelStudioSettings | None = None
    finetune: FinetuneSettings = FinetuneSettings()
    refresh: RefreshSettings = RefreshSettings()
    exclusive: ExclusiveGroups = ()
    review: ReviewSettings = ReviewSettings()
    serve: ServeSettings = ServeSettings()
    s3: S3Settings = S3Settings()


def load_run_file(path: Path) -> RunFile:
    """Read and check a run file.

    Relative paths in it are left as written: they mean the directory the command runs in.

    Raises:
        ConfigError: the file is missing, is not YAML, or has a wrong, missing or unknown key;
            the message names each key and what is wrong with it.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold keys such as 'name' and 'store', see the README")
    try:
        return RunFile.model_validate(content)
    except ValidationError as error:
        raise ConfigError(_explain(path, error)) from error


def _explain(path: Path, error: ValidationError) -> str:
    lines = [f"{path}: {error.error_count()} problem(s)"]
    for problem in error.errors(include_url=False, include_context=False):
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {where}: unknown key; remove it or check its spelling")
        else:
            lines.append(f"  {where}: {problem['msg']}, found {problem['input']!r}")
    return "\n".join(lines)
