"""Which of a project's tasks a request is about, in the language of Label Studio's data manager."""

import json
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition of the data manager's filters, on a column of tasks."""

    column: str
    operator: str
    type: str
    value: object

    def to_json(self) -> dict[str, object]:
        """Return it as the server takes it."""
        return {
            "filter": f"filter:tasks:{self.column}",
            "operator": self.operator,
            "type": self.type,
            "value": self.value,
        }


@dataclass(frozen=True, slots=True)
class Selection:
    """The tasks that meet every condition.

    Attributes:
        keys: that one of them is the task's ``data.key``.
        numbers: that the task's number is one of them; None: any.
        untouched: that nobody has worked on it: no annotation, no skip, no draft. The server
            decides this when it answers, not when the request was made up.
        showing: that it has a prediction.
    """

    keys: Sequence[str]
    numbers: Sequence[int] | None = None
    untouched: bool = False
    showing: bool = False

    def query(self) -> str:
        """Return the selection as JSON."""
        rules = [Rule("data.key", "in_list", "String", list(self.keys))]
        if self.numbers is not None:
            rules.append(Rule("id", "in_list", "Number", list(self.numbers)))
        if self.untouched:
            rules.append(Rule("total_annotations", "equal", "Number", 0))
            rules.append(Rule("cancelled_annotations", "equal", "Number", 0))
            rules.append(Rule("draft_exists", "equal", "Boolean", value=False))
        if self.showing:
            rules.append(Rule("total_predictions", "greater", "Number", 0))
        return query(rules)


def query(rules: Sequence[Rule]) -> str:
    """Return, as the server takes it, that tasks have to meet every rule."""
    items = [rule.to_json() for rule in rules]
    return json.dumps({"filters": {"conjunction": "and", "items": items}})
