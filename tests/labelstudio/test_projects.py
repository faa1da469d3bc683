"""Which project is used, extended or left alone, on a real server."""

from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from labelstudio.client import LabelStudioClient
from labelstudio.errors import mapped_errors
from labelstudio.interface import build, expected_controls
from labelstudio.projects import missing, open_project
from pipeline.errors import LabelStudioError

pytestmark = pytest.mark.labelstudio

OTHER = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="mask" toName="image">'
    '<Label value="road"/></RectangleLabels></View>'
)


def open_with(street: Any, *labels: str) -> Any:
    return open_project(street.client, street.settings.project, labels)


def test_a_project_is_made_once(street: Any) -> None:
    assert open_with(street, "road").id == open_with(street, "road").id


@pytest.mark.parametrize("labels", [["query 1"], ["50% <b>\"'&", "Straße", "a, b"], ["x" * 100]])
def test_the_server_takes_the_interface_and_tells_it_back(street: Any, labels: list[str]) -> None:
    project = open_with(street, *labels)
    assert missing(project.controls, expected_controls(labels)) == []
    assert project.labels == tuple(labels)


def test_twenty_labels_fit(street: Any) -> None:
    labels = [f"query {number}" for number in range(20)]
    assert open_with(street, *labels).labels == tuple(labels)


def test_further_labels_are_added_after_the_old_ones(street: Any) -> None:
    first = open_with(street, "road", "sky")
    assert open_with(street, "car", "sky").id == first.id
    assert street.project().labels == ("road", "sky", "car")


def test_a_project_with_more_labels_is_left_as_it_is(street: Any) -> None:
    open_with(street, "road", "sky", "car")
    assert open_with(street, "car").labels == ("road", "sky", "car")


def test_an_empty_project_is_filled(street: Any) -> None:
    street.client.create_project(street.settings.project, "<View></View>")
    assert open_with(street, "road").labels == ("road",)


def test_another_interface_is_refused_and_kept(street: Any) -> None:
    street.client.create_project(street.settings.project, OTHER)
    with pytest.raises(LabelStudioError, match="'mask' is RectangleLabels"):
        open_with(street, "road")
    assert street.project().controls["mask"].tag == "RectangleLabels"


def test_an_interface_that_lacks_a_control_is_refused(street: Any) -> None:
    street.client.create_project(
        street.settings.project, build(["road"]).replace("verdict_road", "quality")
    )
    with pytest.raises(LabelStudioError, match="no Choices called 'verdict_road'"):
        open_with(street, "road")


def test_two_projects_of_one_title_are_refused(street: Any) -> None:
    for _ in range(2):
        street.client.create_project(street.settings.project, build(["road"]))
    with pytest.raises(LabelStudioError, match="several projects"):
        open_with(street, "road")


def test_the_parts_of_a_run_are_found_in_order(street: Any) -> None:
    title = street.settings.project
    for name in (f"{title} 10", f"{title} 2", f"{title} 02", f"{title} two", f"a {title}", title):
        street.client.create_project(name, build(["road"]))
    found = [project.title for project in street.projects()]
    assert found == [title, f"{title} 2", f"{title} 10"]
    assert open_project(street.client, title, ["road"], part=2).title == f"{title} 2"
    assert open_project(street.client, title, ["road"], part=3).title == f"{title} 3"


@pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated")
def test_a_personal_access_token_works_too(street: Any) -> None:
    token = street.sdk().tokens.create().token
    client = LabelStudioClient(street.client.url, SecretStr(token))
    client.check()
    assert open_project(client, street.settings.project, ["road"]).labels == ("road",)


@pytest.mark.parametrize("token", ["s3cr3t\n", "s3cr3t\r\nHost: x", "s3 cr3t", "s3cr3t\u20ac"])
def test_a_token_that_no_header_holds_is_refused_and_not_told(street: Any, token: str) -> None:
    client = LabelStudioClient(street.client.url, SecretStr(token))
    with pytest.raises(LabelStudioError, match="LABEL_STUDIO_API_KEY holds a blank") as raised:
        client.check()
    assert "cr3t" not in str(raised.value)


def test_an_error_does_not_quote_a_header() -> None:
    with pytest.raises(LabelStudioError) as raised, mapped_errors("http://x", "log in"):
        raise httpx.LocalProtocolError("Illegal header value b'Token s3cr3t\n'")
    assert "cr3t" not in str(raised.value)
