"""Making a project ask our backend: its row in the project, and an interface that can ask."""

from pydantic import SecretStr

from labelstudio.client import LabelStudioClient, Project
from labelstudio.connection import is_loopback
from labelstudio.interface import ASK, build
from labelstudio.projects import run_projects
from labelstudio.settings import LabelStudioSettings
from pipeline.errors import LabelStudioError

TITLE = "readloop"
SECONDS = 100


def connect(
    client: LabelStudioClient,
    settings: LabelStudioSettings,
    *,
    address: str,
    user: str,
    secret: SecretStr,
    asking: bool,
) -> list[int]:
    """Connect a run's projects to a backend that is up, or change how they are connected.

    Args:
        client: the server.
        settings: name the projects.
        address: where the server finds the backend.
        user: sent as basic auth, with the secret.
        secret: stored by the server, which never shows it again.
        asking: give the interfaces a text box for new questions; one without is written anew.

    Returns:
        The numbers of the projects.

    Raises:
        LabelStudioError: there is no such project, the server does not reach the backend, or the
            secret would travel unprotected.
    """
    if not (client.url.startswith("https://") or is_loopback(client.url)):
        raise LabelStudioError(
            f"the backend's secret is not sent to {client.url} without https: connect the backend "
            "in the project's settings by hand, and serve with --no-connect"
        )
    found = run_projects(client, settings)
    if not found:
        raise LabelStudioError(
            f"Label Studio at {client.url} has no project {settings.project!r}: run 'readloop "
            "label' first, or serve with --no-connect"
        )
    backend = {
        "title": TITLE,
        "url": address,
        "is_interactive": True,
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": user,
        "basic_auth_pass": secret.get_secret_value(),
        "timeout": SECONDS,
    }
    for project in found:
        if asking and ASK not in project.controls:
            client.update_interface(project.id, build(project.labels, asking=True))
        _connect_one(client, project, backend)
    return [project.id for project in found]


def _connect_one(client: LabelStudioClient, project: Project, backend: dict[str, object]) -> None:
    mine = [row["id"] for row in client.backends(project.id) if row["title"] == TITLE]
    client.connect_backend(backend | {"project": project.id}, mine[0] if mine else None)
    # A project that shows no version yet would show this backend's, and hide the predictions.
    if client.project(project.id).model_version != project.model_version:
        client.show_model_version(project.id, project.model_version)
