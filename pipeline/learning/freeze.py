"""From corrections to a frozen training set: who is in, on which side, with which weight."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice

from pipeline import masks
from pipeline.draws import drawn
from pipeline.errors import InputError, MissingError, SnapshotError, StorageError
from pipeline.learning.dialogue import read_dialogue
from pipeline.learning.groups import Picture, Sides, assign, choose_grouping
from pipeline.learning.likeness import difference_hash
from pipeline.learning.settings import AnswerSettings, DataSettings
from pipeline.progress import Progress
from pipeline.records import Correction, Example, Origin, Split
from pipeline.review.policy import POLICY, training_corrections
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.store import ObjectReader, Store, open_store
from pipeline.storage.training_sets import (
    Assigned,
    Manifest,
    Row,
    SceneSet,
    TableVersion,
    TrainingSets,
    digest_of,
    example_of,
    images_to_arrow,
    rows_to_arrow,
)

_READS_AT_ONCE = 32
_IMAGES_AT_ONCE = 512
_UNNAMED = re.compile(r"query \d+|.*[\[\]<>{}].*", re.DOTALL)
_TRIES = 5


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A correction that may train, and the table it lies in."""

    table: int
    correction: Correction


@dataclass(frozen=True, slots=True)
class _Look:
    """What an image is now: its etag, or ``problem``; ``likeness`` where it was asked for."""

    etag: str = ""
    likeness: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A manifest whose parts are not written yet."""

    manifest: Manifest
    rows: list[Row]
    images: list[Assigned]

    @property
    def teaches(self) -> bool:
        """Whether there is anything to learn from."""
        return any(row.split == "train" for row in self.rows)


class Freezer:
    """Freezes training sets of one store.

    Args:
        store: holds the corrections, and gets the training set.
        settings: what is in it.
        progress: told of the images that are looked at.
        image_bytes: the bound on an image's size.
    """

    def __init__(
        self,
        store: Store,
        settings: DataSettings,
        progress: Progress,
        image_bytes: int = 200_000_000,
    ) -> None:
        self._image_bytes = image_bytes
        self._store = store
        self._settings = settings
        self._progress = progress
        self._reader = ObjectReader(store.s3)
        self._sets = TrainingSets(store)

    def freeze(self, model: str, learned: Manifest | None) -> Manifest:
        """Write the training set that the corrections make now, or return it if it is there.

        What is returned is ``learned`` itself if there is nothing that it does not hold, and the
        settings are those it was made with.

        Args:
            model: the version that is current.
            learned: the training set which that version has learned, None for one from outside.

        Raises:
            InputError: no correction can be learned from.
            StorageError: a store failed.
        """
        for _ in range(_TRIES):
            latest = self._sets.latest()
            draft = self._draft(model, learned, latest)
            if learned and self._holds(learned, draft):
                return learned
            self._check_some(draft)
            if latest and _same(draft.manifest, latest):
                return latest
            rows, images = self._sets.write_parts(
                draft.manifest.number, rows_to_arrow(draft.rows), images_to_arrow(draft.images)
            )
            manifest = replace(draft.manifest, rows=rows, images=images)
            if self._sets.write_manifest(manifest):
                return manifest
        raise StorageError(f"{self._store.uri}: others freeze snapshots all the time; try again")

    def is_intact(self, manifest: Manifest) -> bool:
        """Return whether a training set can be read, and every picture is the one it was.

        Raises:
            StorageError: a store failed.
        """
        try:
            pictures = {(one.image, one.etag) for one in self._sets.examples(manifest)}
        except SnapshotError:
            return False

        def is_same(picture: tuple[str, str]) -> bool:
            uri, etag = picture
            try:
                return self._reader.head(uri).etag == etag
            except MissingError:
                return False

        with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
            return all(pool.map(is_same, pictures))

    def _draft(self, model: str, learned: Manifest | None, latest: Manifest | None) -> _Draft:
        tables, candidates = self._candidates()
        pictures = list(_pictures(candidates).values())
        grouping = latest.grouping if latest else choose_grouping(pictures, self._settings)
        known = self._sets.assigned(latest) if latest else {}
        looks = self._look_at(pictures, known, hashed=grouping == "likeness")
        seen = [
            replace(picture, likeness=looks[picture.image_id].likeness)
            for picture in pictures
            if not looks[picture.image_id].problem
        ]
        sides = assign(seen, known, grouping, self._settings)
        left_out: Counter[str] = Counter()
        pairs = self._rows(candidates, looks, sides, self._learned_rows(learned), left_out)
        examples = [example for _, example in pairs]
        scenes = self._settings.replay.scenes
        manifest = Manifest(
            number=latest.number + 1 if latest else 1,
            created_at=datetime.now(UTC),
            model=model,
            tables=tables,
            grouping=grouping,
            rows="",
            images="",
            digest=digest_of(examples),
            counts=_counts(examples),
            left_out=dict(sorted(left_out.items())),
            policy=POLICY,
            settings=self._settings.model_dump(mode="json"),
            scenes=SceneSet(**scenes.model_dump()) if scenes else None,
            dialogue=read_dialogue(self._settings.replay.dialogue, self._reader),
        )
        return _Draft(manifest, [row for row, _ in pairs], list(sides.assigned.values()))

    def _holds(self, learned: Manifest, draft: _Draft) -> bool:
        """Return whether a training set says all that a draft does, made with the same settings."""
        if _made_with(learned) != _made_with(draft.manifest):
            return False
        return set(map(_revision, draft.rows)) == set(map(_revision, self._sets.rows(learned)))

    def _check_some(self, draft: _Draft) -> None:
        if draft.teaches:
            return
        left_out = draft.manifest.left_out
        reasons = ", ".join(f"{count} {why}" for why, count in sorted(left_out.items()))
        held = sum(row.split == "holdout" for row in draft.rows)
        raise InputError(
            f"{self._store.uri}: there is no correction to learn from ({held} held out"
            f"{', ' + reasons if reasons else ''}); correct more images and collect them"
        )

    def _candidates(self) -> tuple[tuple[TableVersion, ...], list[_Candidate]]:
        tables, candidates = [], []
        for number, address in enumerate(("", *self._settings.replay.stores)):
            store = open_store(address, self._store.s3) if address else self._store
            table = CorrectionTable(store)
            tables.append(TableVersion(address and store.uri, table.version))
            latest = table.latest(table.version)
            chosen = training_corrections(latest)
            candidates += [_Candidate(number, correction) for correction in chosen]
        return tuple(tables), candidates

    def _look_at(
        self, pictures: Iterable[Picture], known: Mapping[str, Assigned], *, hashed: bool
    ) -> dict[str, _Look]:
        """Look at each image once; with ``hashed``, new ones without a group get a likeness."""

        def look(picture: Picture) -> _Look:
            try:
                etag = self._reader.head(picture.uri).etag
                if not hashed or picture.has_own_group or picture.image_id in known:
                    return _Look(etag)
                data = self._reader.get(picture.uri, self._image_bytes, etag)
            except MissingError:
                return _Look(problem="whose image is gone")
            return _Look(etag, difference_hash(data))

        self._progress.begin("images looked at")
        waiting, looks = iter(pictures), {}
        with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
            while block := list(islice(waiting, _IMAGES_AT_ONCE)):
                for picture, found in zip(block, pool.map(look, block), strict=True):
                    looks[picture.image_id] = found
                self._progress.advance(len(block))
        self._progress.end()
        return looks

    def _learned_rows(self, learned: Manifest | None) -> set[tuple[str, datetime]]:
        if learned is None:
            return set()
        return {(r.id, r.updated_at) for r in self._sets.rows(learned) if r.split != "holdout"}

    def _rows(
        self,
        candidates: Sequence[_Candidate],
        looks: Mapping[str, _Look],
        sides: Sides,
        learned: set[tuple[str, datetime]],
        left_out: Counter[str],
    ) -> list[tuple[Row, Example]]:
        pairs = []
        for candidate in sorted(candidates, key=_order):
            correction = candidate.correction
            problem = _problem(correction, looks[correction.image_id], sides)
            if problem:
                left_out[problem] += 1
                continue
            side = sides.assigned[correction.image_id]
            split = side.split
            if split == "train" and (correction.id, correction.updated_at) in learned:
                split = self._again(correction.id)
            row = self._row(candidate, looks[correction.image_id].etag, side.group, split)
            pairs.append((row, example_of(correction, row)))
        return pairs

    def _row(self, candidate: _Candidate, etag: str, group: str, split: Split) -> Row:
        correction = candidate.correction
        origin: Origin = "replay" if candidate.table else "correction"
        return Row(
            table=candidate.table,
            id=correction.id,
            updated_at=correction.updated_at,
            etag=etag,
            group=group,
            split=split,
            origin=origin,
            answer=answer_to(correction, self._settings.answers),
            weight=weight_of(correction, self._settings.emphasis),
        )

    def _again(self, identity: str) -> Split:
        """Return whether a row that was learned before is replayed."""
        return "train" if drawn("replay", identity, self._settings.replay.earlier) else "rested"


def answer_to(correction: Correction, answers: AnswerSettings) -> str:
    """Return what the model should have said."""
    if correction.present:
        return answers.present
    if _UNNAMED.fullmatch(correction.label):
        return answers.unnamed
    return answers.absent.replace("{label}", correction.label)


def weight_of(correction: Correction, emphasis: float) -> float:
    """Return 1, and more the more a person changed: up to ``1 + emphasis``.

    What nobody predicted (imported masks) was not changed.
    """
    change = 1.0 - correction.iou if correction.key else 0.0
    return 1.0 + emphasis * min(1.0, max(0.0, change))


def _pictures(candidates: Sequence[_Candidate]) -> dict[str, Picture]:
    found = (candidate.correction for candidate in candidates)
    return {row.image_id: Picture(row.image_id, row.image, row.group) for row in found}


def _order(candidate: _Candidate) -> tuple[int, str, str, str, str]:
    row = candidate.correction
    return candidate.table, row.image_id, row.label, row.query, row.id


def _problem(correction: Correction, look: _Look, sides: Sides) -> str:
    """Return why a correction cannot be in the set, empty if it can."""
    if look.problem:
        return look.problem
    if correction.etag and correction.etag != look.etag:
        return "whose image has changed"
    if correction.image_id in sides.between:
        return "whose image is like held-out and other ones"
    if correction.present and not masks.area(correction.mask):
        return "whose mask is empty though the object is present"
    return ""


def _counts(examples: Sequence[Example]) -> dict[str, int]:
    counts = Counter(f"{example.split} rows" for example in examples)
    for split in ("train", "holdout"):
        chosen = [example for example in examples if example.split == split]
        counts[f"{split} images"] = len({example.image_id for example in chosen})
        counts[f"{split} groups"] = len({example.group for example in chosen})
        counts[f"{split} absent"] = sum(not example.present for example in chosen)
    return dict(sorted(counts.items()))


def _made_with(manifest: Manifest) -> tuple[object, ...]:
    return manifest.settings, manifest.scenes, manifest.dialogue


def _revision(row: Row) -> tuple[object, ...]:
    """What a row teaches, apart from whether it was learned before."""
    return row.table, row.id, row.updated_at, row.etag, row.answer, row.weight


def _same(draft: Manifest, latest: Manifest) -> bool:
    """Whether a draft says nothing that the latest manifest does not say."""
    unnamed = replace(latest, rows="", images="")
    return draft == replace(unnamed, number=draft.number, created_at=draft.created_at)
