"""Registers the receiver as a webhook of each project, and takes it back."""

from collections.abc import Iterable
from contextlib import suppress

from pydantic import SecretStr

from labelstudio.client import LabelStudioClient
from labelstudio.collecting.receiver import SECRET_HEADER
from pipeline.errors import LabelStudioError

ACTIONS = (
    "ANNOTATION_CREATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
    "TASKS_DELETED",
)


class Hooks:
    """The webhooks that point at one receiver. Label Studio keeps the secret with them."""

    def __init__(self, client: LabelStudioClient, url: str, secret: SecretStr) -> None:
        self._client = client
        self._url = url
        self._secret = secret
        self._made: dict[int, int] = {}

    def register(self, projects: Iterable[int]) -> None:
        """Make the webhook of each project that has none yet; mend one that is there.

        Raises:
            LabelStudioError: the server refuses the address.
        """
        for project in projects:
            if project not in self._made:
                self._made[project] = self._client.save_webhook(
                    self._settings(project), self._old(project)
                )

    def remove(self) -> None:
        """Delete the webhooks, so that no annotator waits for a receiver that is gone."""
        for number in self._made.values():
            with suppress(LabelStudioError):  # one that stays behind costs a refused connection
                self._client.delete_webhook(number)
        self._made.clear()

    def _old(self, project: int) -> int | None:
        found = [row for row in self._client.webhooks(project) if row["url"] == self._url]
        return int(found[0]["id"]) if found else None

    def _settings(self, project: int) -> dict[str, object]:
        return {
            "project": project,
            "url": self._url,
            "send_payload": False,
            "send_for_all_actions": False,
            "actions": list(ACTIONS),
            "headers": {SECRET_HEADER: self._secret.get_secret_value()},
            "is_active": True,
        }
