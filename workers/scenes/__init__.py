"""Generated referring scenes: pictures, true masks, queries and answers, each from (seed, index).

The scenes train and test the tiny checkpoint and fill the demo. numpy, Pillow and OpenCV only.
"""

from workers.scenes.difficulty import DIFFICULTIES, EASY, HARD, Difficulty
from workers.scenes.records import Query, Relation, Scene, SceneObject, Side
from workers.scenes.render import describe, render
from workers.scenes.view import along
from workers.scenes.write import write_scenes

__all__ = [
    "DIFFICULTIES",
    "EASY",
    "HARD",
    "Difficulty",
    "Query",
    "Relation",
    "Scene",
    "SceneObject",
    "Side",
    "along",
    "describe",
    "render",
    "write_scenes",
]
