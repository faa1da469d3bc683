"""What a play is told, and the run file that each order gets from the template."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from benchmarks.camvid.files import write_once
from benchmarks.camvid.photos import Photo, PhotoSet
from pipeline.config import RunFile
from pipeline.errors import ConfigError, InputError

OrderName = Literal["worst", "random"]
ORDERS: tuple[OrderName, ...] = ("worst", "random")
TEMPLATE = Path(__file__).resolve().parents[2] / "configs" / "camvid.yaml"


@dataclass(frozen=True)
class Play:
    """One play of the loop.

    ``pool`` are the photographs that may be corrected, ``judged`` those that measure. ``rounds``
    are numbers of corrected images, each more than the one before. ``template`` is the run file's
    content.
    """

    pool: PhotoSet
    judged: PhotoSet
    rounds: tuple[int, ...]
    work: Path
    seed: int
    template: dict[str, Any]

    def folder(self, order: OrderName) -> Path:
        """Return where an order keeps everything."""
        return self.work / order

    def check(self) -> None:
        """Make sure that the rounds can be played, and that the folder is of this play.

        Raises:
            InputError: the rounds do not grow or want more images than there are.
            ConfigError: the folder was begun with other settings.
        """
        if not self.rounds or list(self.rounds) != sorted({*self.rounds} - {0}):
            raise InputError(f"--rounds {self.rounds}: write growing numbers of corrected images")
        if self.rounds[-1] > len(self.pool.photos):
            raise InputError(
                f"--rounds: {self.rounds[-1]} images are to be corrected, {len(self.pool.photos)} "
                "may be (--images, and what lies in --train)"
            )
        self.work.mkdir(parents=True, exist_ok=True)
        path = self.work / "play.json"
        mine = json.loads(json.dumps(self._identity()))
        if not path.exists():
            write_once(path, mine)
        before = json.loads(path.read_text(encoding="utf-8"))
        other = sorted(name for name in mine if mine[name] != before.get(name))
        if other:
            raise ConfigError(
                f"{self.work}: was begun with another {', '.join(other)}; choose another --work"
            )

    def _identity(self) -> dict[str, Any]:
        return {
            "train": str(self.pool.folder),
            "eval": str(self.judged.folder),
            "images": [photo.name for photo in self.pool.photos],
            "eval images": [photo.name for photo in self.judged.photos],
            "least pixels": self.pool.least_pixels,
            "seed": self.seed,
            "run file": self.template,
        }

    def run_file(self, order: OrderName, url: str) -> RunFile:
        """Return the run of one order, its photographs listed in a manifest.

        Raises:
            ConfigError: the template is wrong.
        """
        folder = self.folder(order)
        folder.mkdir(parents=True, exist_ok=True)
        manifest = folder / "manifest.jsonl"
        manifest.write_text(_manifest(self.pool.photos), encoding="utf-8")
        queries = [{"label": name, "text": f"the {name}"} for name in self.pool.classes]
        content = {
            **self.template,
            "name": f"camvid-{order}",
            "store": str(folder / "store"),
            "source": {"images": str(manifest), "queries": queries},
            "labelstudio": {"url": url, "project": f"camvid {order}"},
        }
        try:
            return RunFile.model_validate(content)
        except ValidationError as error:
            raise ConfigError(f"the run file's template is wrong: {error}") from error


def read_template(path: Path) -> dict[str, Any]:
    """Return the content of a run file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({error})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold the keys of a run file")
    return content


def _manifest(photos: Sequence[Photo]) -> str:
    rows = ({"image": str(photo.image), "group": photo.group} for photo in photos)
    return "".join(json.dumps(row) + "\n" for row in rows)
