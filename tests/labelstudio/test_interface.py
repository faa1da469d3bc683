"""Names and colours of the labeling interface."""

import colorsys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.label_interface import LabelInterface

from labelstudio.interface import build, check_labels, colors, slug
from pipeline.errors import LabelStudioError


def test_each_label_has_its_controls() -> None:
    interface = LabelInterface(build(["road", "a car"]))
    controls = {control.name: sorted(control.labels) for control in interface.controls}
    assert controls["mask"] == ["a car", "road"]
    assert controls["points"] == ["a car +", "a car -", "road +", "road -"]
    assert controls["verdict_road"] == ["absent", "present", "wrong"]


@given(st.lists(st.text(min_size=1), min_size=2, unique=True))
def test_slugs_are_the_labels_own(labels: list[str]) -> None:
    slugs = [slug(label) for label in labels]
    assert len(set(slugs)) == len(slugs)
    assert all(part.isidentifier() or part[0].isdigit() for part in slugs)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([], "at least one"),
        (["road", "road"], "there twice"),
        ([""], "is empty"),
        (["road "], "ends with a space"),
        (["$road"], "holds"),
        (["ro\nad"], "unprintable"),
    ],
)
def test_labels_that_cannot_be_shown_are_refused(labels: list[str], reason: str) -> None:
    with pytest.raises(LabelStudioError, match=reason):
        check_labels(labels)


def test_twenty_masks_have_different_colours() -> None:
    assert len({colors(number)[0] for number in range(20)}) == 20
    hues = [colorsys.rgb_to_hls(*_rgb(colors(number)[0]))[0] for number in range(8)]
    assert all(abs(a - b) > 0.04 for a, b in pairwise(sorted(hues)))


def test_inside_is_light_and_outside_dark() -> None:
    _, inside, outside = colors(3)
    assert min(_rgb(inside)) > 0.5
    assert max(_rgb(outside)) < 0.5


def _rgb(color: str) -> tuple[float, float, float]:
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue
