"""What the gate asks beside corrections: generated scenes, as pictures on the store."""

import hashlib
import io

from PIL import Image

from pipeline import masks
from pipeline.records import Example
from pipeline.storage.store import Store
from pipeline.storage.training_sets import SceneSet
from workers.scenes import DIFFICULTIES, render
from workers.tiny.vocabulary import ANSWER

SCENES = "scenes"


def judged_scenes(store: Store, scenes: SceneSet) -> list[Example]:
    """Write the scenes to judge by, if they are not there, and return what is true of them.

    A picture is called after its content too, so that answers about what another release draws
    are not taken for answers about it.

    Raises:
        StorageError: the store failed.
    """
    return [
        example for index in range(scenes.judged) for example in _examples(store, scenes, index)
    ]


def _examples(store: Store, scenes: SceneSet, index: int) -> list[Example]:
    scene = render(scenes.judge_seed, index, DIFFICULTIES[scenes.difficulty])
    digest = hashlib.sha256(scene.image.tobytes()).hexdigest()[:8]
    name = f"{scenes.difficulty}-{scenes.judge_seed}-{index:05d}-{digest}"
    path = f"{SCENES}/{name}.png"
    buffer = io.BytesIO()
    Image.fromarray(scene.image).save(buffer, "PNG")
    store.put_new(path, buffer.getvalue())
    info = store.head(path)
    return [
        Example(
            id=f"scene {name} {number}",
            image_id=info.uri,
            image=info.uri,
            etag=info.etag,
            group=f"scene {name}",
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
