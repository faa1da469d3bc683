"""What is in the tables of a store, whoever asked for it."""

from pipeline.records import Prediction
from pipeline.storage.delta import FencedTable
from pipeline.storage.schemas import COMMITTED_AT, PREDICTIONS_SCHEMA, predictions_from_arrow
from pipeline.storage.store import Store


def all_predictions(store: Store) -> list[Prediction]:
    """Return every prediction that is committed; one that is there twice comes twice."""
    table = FencedTable(store, "predictions", PREDICTIONS_SCHEMA.append(COMMITTED_AT))
    found = table.snapshot().scan(PREDICTIONS_SCHEMA.names)
    return [row for _, rows in found for row in predictions_from_arrow(rows)]
