"""The projects that a run shows its predictions in: found by title, made, or extended.

A large run is split: ``title``, ``title 2``, ``title 3``, … A project belongs to us when its
interface offers what :mod:`labelstudio.interface` would for some labels. Further labels are added
to it; one with any other interface is left alone.
"""

from collections.abc import Mapping, Sequence

from labelstudio.client import LabelStudioClient, Project
from labelstudio.interface import ASK, Control, build, check_labels, expected_controls
from labelstudio.settings import LabelStudioSettings
from pipeline.errors import LabelStudioError


def run_projects(client: LabelStudioClient, settings: LabelStudioSettings) -> list[Project]:
    """Return the projects of a run that are there, in the order of their parts.

    Raises:
        LabelStudioError: several projects have one of the titles, or the server fails.
    """
    return list(project_parts(client, settings.project).values())


def project_parts(client: LabelStudioClient, title: str) -> dict[int, Project]:
    """Return the parts of ``title`` that are there by their numbers, which start at 1.

    Raises:
        LabelStudioError: several projects have one of the titles, or the server fails.
    """
    found: dict[int, Project] = {}
    for project in client.find_projects(title, lambda found: _part(found, title) > 0):
        part = _part(project.title, title)
        if part in found:
            raise LabelStudioError(
                f"Label Studio at {client.url} has several projects called {project.title!r} "
                f"({found[part].id}, {project.id}): rename all but one, or choose another "
                "'labelstudio.project'"
            )
        found[part] = project
    return dict(sorted(found.items()))


def open_project(
    client: LabelStudioClient,
    title: str,
    labels: Sequence[str],
    parts: Mapping[int, Project] | None = None,
    part: int = 1,
) -> Project:
    """Return a part of ``title``, able to show ``labels``; it is made if it is not there.

    Args:
        client: the server.
        title: of the first part.
        labels: what its interface has to offer.
        parts: those that are there, when they are known already.
        part: which one.

    Raises:
        LabelStudioError: several projects have the title, or it has another interface.
    """
    check_labels(labels)
    found = (project_parts(client, title) if parts is None else parts).get(part)
    if found is None:
        return client.create_project(part_title(title, part), build(labels))
    return _extended(client, found, labels)


def part_title(title: str, part: int) -> str:
    """Return what a part of a run is called."""
    return title if part == 1 else f"{title} {part}"


def _part(found: str, title: str) -> int:
    """Return which part of ``title`` a title names, 0 if none."""
    if found == title:
        return 1
    number = found.removeprefix(f"{title} ")
    is_number = found != number and number.isdecimal() and number.isascii()
    return int(number) if is_number and number == str(int(number)) and int(number) > 1 else 0


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
    client.update_interface(project.id, build(together, asking=ASK in project.controls))
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
