"""The project that a run shows its predictions in: found by its title, made, or extended.

A project belongs to us when its interface offers what :mod:`labelstudio.interface` would for
some labels. Further labels are added to it; one with any other interface is left alone.
"""

from collections.abc import Mapping, Sequence

from labelstudio.client import LabelStudioClient, Project
from labelstudio.interface import Control, build, check_labels, expected_controls
from pipeline.errors import LabelStudioError


def open_project(client: LabelStudioClient, title: str, labels: Sequence[str]) -> Project:
    """Return the project with that title, able to show ``labels``.

    Raises:
        LabelStudioError: several projects have the title, or it has another interface.
    """
    check_labels(labels)
    found = client.find_projects(title)
    if len(found) > 1:
        numbers = ", ".join(str(project.id) for project in found)
        raise LabelStudioError(
            f"Label Studio at {client.url} has several projects called {title!r} ({numbers}): "
            "rename all but one, or choose another 'labelstudio.project'"
        )
    if not found:
        return client.create_project(title, build(labels))
    return _extended(client, found[0], labels)


def _extended(client: LabelStudioClient, project: Project, labels: Sequence[str]) -> Project:
    if not missing(project.controls, expected_controls(labels)):
        return project
    if project.controls:
        differences = missing(project.controls, expected_controls(project.labels))
        if not project.labels or differences:
            needed = "; ".join(differences or missing(project.controls, expected_controls(labels)))
            raise LabelStudioError(
                f"the project {project.title!r} (number {project.id}) at {client.url} has another "
                f"interface: {needed}. Choose another 'labelstudio.project', or rename that one"
            )
    together = [*project.labels, *(label for label in labels if label not in project.labels)]
    client.update_interface(project.id, build(together))
    return client.project(project.id)


def missing(have: Mapping[str, Control], need: Mapping[str, Control]) -> list[str]:
    """Say in words what an interface lacks; nothing if it has all that is needed."""
    found = []
    for name, wanted in need.items():
        control = have.get(name)
        if control is None:
            found.append(f"it has no {wanted.tag} called {name!r}")
        elif (control.tag, control.to_name) != (wanted.tag, wanted.to_name):
            found.append(
                f"{name!r} is {control.tag} on {control.to_name!r} instead of {wanted.tag} on "
                f"{wanted.to_name!r}"
            )
        elif lacking := sorted(wanted.labels - control.labels):
            found.append(f"{name!r} has no label {', '.join(map(repr, lacking))}")
    return found
