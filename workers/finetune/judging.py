"""What the gate asks beside corrections: generated scenes, as pictures on the store."""

import io

from PIL import Image

from pipeline import masks
from pipeline.records import Example
from pipeline.storage.store import Store
from pipeline.storage.training_sets import SceneSet
from workers.scenes import EASY, render
from workers.tiny.vocabulary import ANSWER

SCENES = "scenes"


def judged_scenes(store: Store, scenes: SceneSet) -> list[Example]:
    """Write the scenes to judge by, if they are not there, and return what is true of them.

    Raises:
        StorageError: the store failed.
    """
    return [
        example
        for index in range(scenes.judged)
        for example in _examples(store, scenes.judge_seed, index)
    ]


def _examples(store: Store, seed: int, index: int) -> list[Example]:
    scene = render(seed, index, EASY)
    path = f"{SCENES}/{seed}/{index:05d}.png"
    buffer = io.BytesIO()
    Image.fromarray(scene.image).save(buffer, "PNG")
    store.put_new(path, buffer.getvalue())
    info = store.head(path)
    return [
        Example(
            id=f"scene {seed} {index} {number}",
            image_id=info.uri,
            image=info.uri,
            etag=info.etag,
            group=f"scene {seed} {index}",
            split="holdout",
            origin="replay",
            label=query.kind,
            query=query.text,
            present=query.present,
            mask=masks.encode(scene.mask(query)),
            answer=query.denial or ANSWER,
            weight=1.0,
        )
        for number, query in enumerate(scene.queries)
    ]
