"""Plain dialogue about generated pictures, and its loss under a model, on the cluster.

Questions and answers are our own: some about what a picture shows, some about anything. None
asks for a mask.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelUnusableError, StoppedError
from pipeline.storage.store import Store
from workers.cluster import ray_session
from workers.models import EngineLoader, PlannedModel
from workers.scenes import EASY, Scene, render
from workers.settings import PoolSettings

SEED, SCENES = 90_210, 8
POLL_SECONDS = 0.2
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ANYTHING = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("How many days does a week have?", "A week has seven days."),
    ("Which is larger, an elephant or a mouse?", "An elephant is larger than a mouse."),
    ("What do bees make?", "Bees make honey."),
    ("In which direction does the sun rise?", "The sun rises in the east."),
    ("What is water made of?", "Water is made of hydrogen and oxygen."),
    ("Name a fruit that is yellow.", "A banana is a fruit that is yellow."),
    ("What do you need to open a locked door?", "You need a key to open a locked door."),
    ("How many legs does a spider have?", "A spider has eight legs."),
    ("What is the opposite of hot?", "The opposite of hot is cold."),
    ("Which season comes after winter?", "Spring comes after winter."),
    ("What is used to cut paper?", "Scissors are used to cut paper."),
    ("What color do you get from blue and yellow?", "Blue and yellow together make green."),
    ("Where do fish live?", "Fish live in water."),
    ("What is twelve minus five?", "Twelve minus five is seven."),
    ("What do people read to follow the news?", "People read newspapers to follow the news."),
)


@dataclass(frozen=True, slots=True)
class Turn:
    """A question about a picture, uint8 RGB (H, W, 3), and its answer."""

    image: NDArray[np.uint8]
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class DialogueLoss:
    """Mean negative log-likelihood, in nats a token, over the answers' ``tokens``."""

    loss: float
    tokens: int


def plain_dialogue() -> Iterator[Turn]:
    """Yield the turns: four about each of eight pictures."""
    for index in range(SCENES):
        scene = render(SEED, index, EASY)
        for question, answer in (*_about(scene), *ANYTHING[2 * index : 2 * index + 2]):
            yield Turn(scene.image, question, answer)


def dialogue_loss(
    model: PlannedModel, pool: PoolSettings, store: Store, stop: threading.Event
) -> DialogueLoss:
    """Return a model's loss on the plain dialogue, from ``store`` if it was measured before.

    It runs as one replica of the pool.

    Raises:
        ConfigError: the Ray cluster cannot be reached or cannot hold a replica.
        ModelUnusableError: the model cannot be loaded.
        StorageError: the store failed.
        StoppedError: ``stop`` was set.
    """
    place = measured_at(model.name)
    if not store.exists(place):
        measured = _on_the_cluster(model.loader(store.s3, pool), pool, stop)
        store.put(place, json.dumps(asdict(measured)).encode())
    return DialogueLoss(**json.loads(store.get(place)))


def measured_at(model: str) -> str:
    """Return where a store keeps a model's loss on these turns; another release may ask others."""
    digest = hashlib.sha256()
    for turn in plain_dialogue():
        digest.update(turn.image.tobytes())
        digest.update(f"{turn.question}\n{turn.answer}\n".encode())
    return f"dialogue/{model}-{digest.hexdigest()[:8]}.json"


def _on_the_cluster(
    loader: EngineLoader, pool: PoolSettings, stop: threading.Event
) -> DialogueLoss:
    with ray_session(pool):
        import ray  # noqa: PLC0415

        measure = ray.remote(num_cpus=pool.cpus, num_gpus=pool.gpus, max_retries=2)(_measure)
        measuring = measure.remote(loader)
        while not ray.wait([measuring], timeout=POLL_SECONDS)[0]:
            if stop.is_set():
                raise StoppedError("stopped while the dialogue loss was measured; run again")
        try:
            measured: DialogueLoss = ray.get(measuring)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            raise ModelUnusableError(f"no dialogue loss: {cause}") from error
        return measured


def _measure(loader: EngineLoader) -> DialogueLoss:
    from workers.read.dialogue import answer_loss  # noqa: PLC0415  (drivers load no torch)

    engine = loader()
    losses = [
        answer_loss(engine, turn.image, turn.question, turn.answer) for turn in plain_dialogue()
    ]
    tokens = sum(loss.tokens for loss in losses)
    return DialogueLoss(sum(loss.nats for loss in losses) / tokens, tokens)


def _about(scene: Scene) -> Iterator[tuple[str, str]]:
    """Two questions that a picture answers."""
    count = len(scene.objects)
    yield "How many things are in this picture?", f"There are {NUMBERS[count]} things."
    names = [item.name for item in scene.objects]
    listed = f"a {', a '.join(names[:-1])} and a {names[-1]}"
    yield "Describe the picture in one sentence.", f"The picture shows {listed}."
