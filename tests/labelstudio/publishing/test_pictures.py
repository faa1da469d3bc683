"""Image addresses on a real server: what is served, and what cannot be said so."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from labelstudio.client import LabelStudioClient
from labelstudio.publishing.pictures import Pictures
from pipeline.errors import LabelStudioError
from pipeline.records import Prediction
from pipeline.storage.settings import S3Settings

pytestmark = pytest.mark.labelstudio


@pytest.fixture
def pictures(street: Any) -> Pictures:
    street.publish([])
    return Pictures(street.client, street.project().id, S3Settings())


def folders(client: LabelStudioClient, project: int) -> set[str]:
    return {row["path"] for row in client.storages("localfiles", project)}


def test_a_file_is_served_by_the_server(pictures: Pictures, street: Any, image: Any) -> None:
    uri = image("a b%20#ü.png")
    address = pictures.addresses([uri])[uri]
    assert street.client.serves(address)
    assert folders(street.client, street.project().id) == {str(image.folder)}


def test_a_folder_is_connected_once(street: Any, prediction: Callable[..., Prediction]) -> None:
    street.publish([[prediction(name="a.png")]])
    street.publish([[prediction(name="a.png")], [prediction(name="b.png")]])
    assert len(street.client.storages("localfiles", street.project().id)) == 1


def test_many_folders_share_one_above(pictures: Pictures, street: Any, image: Any) -> None:
    path = Path(image.folder)
    uris = []
    for number in range(21):
        (path / str(number)).mkdir(parents=True)
        copy = path / str(number) / "a.png"
        copy.symlink_to(path / "a.png")
        uris.append(copy.as_uri())
    image()
    addresses = pictures.addresses(uris)
    assert len(folders(street.client, street.project().id)) == 1
    assert street.client.serves(addresses[uris[-1]])


def test_a_file_that_the_server_does_not_see(pictures: Pictures, image: Any) -> None:
    gone = Path(image.folder, "gone.png").as_uri()
    Path(image.folder).mkdir()
    with pytest.raises(LabelStudioError, match=r"gone\.png: it must run on this machine"):
        pictures.addresses([gone])


def test_a_sync_by_accident_makes_no_tasks(street: Any, prediction: Any) -> None:
    street.publish([[prediction()]])
    (row,) = street.client.storages("localfiles", street.project().id)
    street.sdk().import_storage.local.sync(row["id"])
    assert street.project().tasks == 1


def test_an_object_is_presigned_with_the_credentials_of_the_run(
    street: Any, prediction: Any, image: Any, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(image.folder, Path(image()).name)
    bucket = s3.make_bucket("street-photos", {"val/a b.png": path.read_bytes()})
    row = prediction(image=f"{bucket}/val/a b.png")
    assert street.publish([[row]], s3=S3Settings(endpoint=s3.endpoint)).created == 1
    # moto checks signatures in headers only
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", float("inf"))
    headers = {"Authorization": f"Token {street.token.get_secret_value()}"}
    address = street.client.url + street.tasks()[0]["data"]["image"]
    answer = httpx.get(address, headers=headers, follow_redirects=True)
    assert "X-Amz-Signature" in str(answer.url)
    assert answer.content == path.read_bytes()


def test_an_unreachable_bucket_says_what_to_do(
    street: Any, prediction: Any, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3.make_bucket("locked-photos", {"a.png": b"x"})
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(LabelStudioError, match="give the server credentials") as caught:
        street.publish([[prediction(image=f"{bucket}/a.png")]], s3=S3Settings(endpoint=s3.endpoint))
    assert os.environ["AWS_ACCESS_KEY_ID"] not in str(caught.value)


def test_temporary_credentials_are_not_given_away(
    street: Any, prediction: Any, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3.make_bucket("rented-photos", {"a.png": b"x"})
    monkeypatch.setenv("AWS_SESSION_TOKEN", "for an hour")
    with pytest.raises(LabelStudioError, match="with its own credentials") as caught:
        street.publish([[prediction(image=f"{bucket}/a.png")]], s3=S3Settings(endpoint=s3.endpoint))
    assert "those of this run" not in str(caught.value)


def test_addresses_are_quoted(pictures: Pictures, image: Any) -> None:
    uri = image("50% & more?.png")
    assert quote("50% & more?.png") in pictures.addresses([uri])[uri]
