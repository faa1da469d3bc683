"""Other predictions on tasks that are there: put on, or taken back, in bulk.

Only tasks that nobody has touched are changed, and the server itself decides that in the request
that changes them. A task somebody works on keeps the prediction that the person started from.
"""

from collections.abc import Mapping
from typing import Any

from labelstudio.client import LabelStudioClient
from labelstudio.publishing.payload import TaskPayload
from labelstudio.selection import Selection

Rows = Mapping[int, Mapping[str, Any]]
"""Tasks as the server lists them, by their numbers."""


def untouched(client: LabelStudioClient, project: int, keys: Mapping[int, str]) -> Rows:
    """Return those of a project's tasks that carry their key and that nobody has worked on.

    Args:
        client: the server.
        project: whose tasks they are.
        keys: the tasks' keys by their numbers, no more than one request may name.
    """
    if not keys:
        return {}
    rows = client.select(project, Selection(list(keys.values()), list(keys), untouched=True))
    return {row["id"]: row for row in rows}


def replace_predictions(
    client: LabelStudioClient,
    project: int,
    tasks: Mapping[int, TaskPayload],
    rows: Rows,
    *,
    addresses: Mapping[str, str],
    ours: frozenset[str],
) -> set[int]:
    """Let untouched tasks show what their payloads say; return the numbers of those.

    Doing it again does no harm, so an interrupted replacement is simply repeated.

    Args:
        client: the server.
        project: whose tasks they are.
        tasks: payloads by the tasks' numbers.
        rows: what :func:`untouched` says about the tasks.
        addresses: where a browser finds the images.
        ours: model versions whose predictions may go; those of others stay.

    Raises:
        RefusedError: a prediction is not valid to the server. The old ones are gone then.
        LabelStudioError: the server failed.
    """
    cleared = clear(client, project, rows, ours)
    bodies = [body for number in cleared for body in tasks[number].prediction_bodies(number)]
    if bodies:
        client.add_predictions(project, bodies)
    for number, row in cleared.items():
        wanted = tasks[number].data(addresses[tasks[number].image])
        if row["data"] != wanted:
            client.update_data(number, wanted)
    return set(cleared)


def clear(client: LabelStudioClient, project: int, rows: Rows, ours: frozenset[str]) -> Rows:
    """Delete our predictions on tasks that are still untouched; return those, as they are then.

    Args:
        client: the server.
        project: whose tasks they are.
        rows: what :func:`untouched` says about the tasks.
        ours: model versions whose predictions may go; those of others stay.
    """
    keys = {number: str(row["data"]["key"]) for number, row in rows.items()}
    single = [number for number, row in rows.items() if row["total_predictions"] == 1]
    if single:
        selection = Selection([keys[number] for number in single], single, untouched=True)
        client.clear_predictions(project, selection)
    several = [number for number, row in rows.items() if row["total_predictions"] > 1]
    for number in several:
        for prediction in client.predictions(number):
            if prediction["model_version"] in ours:
                client.delete_prediction(prediction["id"])
    # Somebody may have begun to work on one in between.
    return untouched(client, project, keys) if single or several else rows
