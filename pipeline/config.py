"""The run file: what to label, with which model, where results go. Unknown keys are errors."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import ConfigError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class QuerySettings(Settings):
    """One query that is applied to every image."""

    label: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    text: Annotated[str, Field(min_length=1)]


class SourceSettings(Settings):
    """Images (directory, ``s3://`` prefix or manifest) and queries (a list, or a file of them)."""

    images: str
    queries: list[QuerySettings] | str = []


class PoolSettings(Settings):
    """Replicas of the model and what each may use."""

    replicas: Annotated[int, Field(ge=1)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0
    cpus: Annotated[float, Field(gt=0)] = 1
    images_per_batch: Annotated[int, Field(ge=1, le=1024)] = 8
    precision: Literal["float32", "bfloat16", "float16"] = "float32"


class LimitSettings(Settings):
    """Bounds on what one row may cost; a row over one of them is recorded as failed."""

    image_pixels: Annotated[int, Field(ge=1)] = 100_000_000
    image_bytes: Annotated[int, Field(ge=1)] = 200_000_000
    query_characters: Annotated[int, Field(ge=1)] = 2_000


class LabelStudioSettings(Settings):
    """Where predictions are shown; the token comes from ``LABEL_STUDIO_API_KEY``."""

    url: Annotated[str, Field(pattern=r"^https?://")]
    project: Annotated[str, Field(min_length=1, max_length=50)]
    queries_per_task: Annotated[int, Field(ge=1, le=100)] = 20
    task_bytes: Annotated[int, Field(ge=10_000)] = 5_000_000
    points_per_sign: Annotated[int, Field(ge=0, le=30)] = 4
    batch_tasks: Annotated[int, Field(ge=1, le=1000)] = 100


class S3Settings(Settings):
    """How to reach ``s3://`` addresses; credentials come from boto3's chain."""

    endpoint: str | None = None
    region: str | None = None


class RunFile(Settings):
    """One labelling run, as written in ``RUN.yaml``."""

    name: Name
    store: str
    source: SourceSettings
    model: str
    pool: PoolSettings = PoolSettings()
    limits: LimitSettings = LimitSettings()
    labelstudio: LabelStudioSettings | None = None
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
