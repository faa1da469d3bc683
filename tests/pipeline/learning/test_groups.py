"""Sides of the split: whole groups, kept for ever, none that leaks into the other."""

from dataclasses import replace

from pipeline.learning.groups import Picture, assign, choose_grouping, side_of
from pipeline.learning.settings import DataSettings

SETTINGS = DataSettings()


def picture(number: int, likeness: int = 0, group: str = "file:///photos") -> Picture:
    uri = f"file:///photos/{number:03d}.png"
    return Picture(uri, uri, group, likeness)


def spread(number: int) -> int:
    """Hashes that are far from each other."""
    return (0x9E3779B97F4A7C15 * (number + 1)) % 2**64


def test_frames_of_one_scene_are_on_one_side() -> None:
    frames = [picture(3 * n + k, spread(n) ^ k) for n in range(60) for k in range(3)]
    sides = assign(frames, {}, "likeness", SETTINGS)
    groups: dict[str, set[str]] = {}
    for row in sides.assigned.values():
        groups.setdefault(row.group, set()).add(row.split)
    assert len(groups) == 60
    assert all(len(found) == 1 for found in groups.values())
    held = sum(found == {"holdout"} for found in groups.values())
    assert 4 <= held <= 22


def test_more_pictures_and_other_settings_move_nobody() -> None:
    first = assign([picture(n, spread(n)) for n in range(20)], {}, "likeness", SETTINGS)
    more = [picture(n, spread(n)) for n in range(200)]
    other = SETTINGS.model_copy(update={"holdout": 0.6})
    later = assign(more, first.assigned, "likeness", other)
    assert {image: later.assigned[image] for image in first.assigned} == first.assigned
    assert len(later.assigned) == 200


def test_a_new_frame_joins_the_side_of_its_neighbors_and_one_between_sides_joins_none() -> None:
    seen = [picture(n, spread(n)) for n in range(40)]
    first = assign(seen, {}, "likeness", SETTINGS).assigned
    held = next(one for one in seen if first[one.image_id].split == "holdout")
    trained = next(one for one in seen if first[one.image_id].split == "train")
    frame = picture(100, held.likeness ^ 0b111)
    sides = assign([frame], first, "likeness", SETTINGS)
    assert sides.assigned[frame.image_id].group == held.image_id
    assert sides.assigned[frame.image_id].split == "holdout"

    near = replace(first[trained.image_id], likeness=held.likeness ^ 0b111111111111)
    between = picture(101, held.likeness ^ 0b111111)
    sides = assign([between], {**first, trained.image_id: near}, "likeness", SETTINGS)
    assert sides.between == {between.image_id}
    assert between.image_id not in sides.assigned


def test_a_group_of_the_manifest_outranks_likeness() -> None:
    pictures = [picture(n, 1, group=f"video {n % 12}") for n in range(48)]
    sides = assign(pictures, {}, "likeness", SETTINGS)
    assert {row.group for row in sides.assigned.values()} == {f"video {n}" for n in range(12)}
    for row in sides.assigned.values():
        assert row.split == side_of(row.group, SETTINGS)


def test_of_few_groups_one_is_held_out() -> None:
    for start in range(0, 60, 2):
        pictures = [picture(n, spread(n)) for n in (start, start + 1)]
        splits = {row.split for row in assign(pictures, {}, "likeness", SETTINGS).assigned.values()}
        assert "holdout" in splits


def test_several_folders_are_groups_and_one_folder_is_not() -> None:
    one = [picture(n) for n in range(9)]
    assert choose_grouping(one, SETTINGS) == "likeness"
    uris = [f"file:///photos/{n}/a.png" for n in range(9)]
    several = [Picture(uri, uri, uri.removesuffix("/a.png")) for uri in uris]
    assert choose_grouping(several, SETTINGS) == "folder"
    assert choose_grouping(several, DataSettings(grouping="likeness")) == "likeness"


def test_a_new_picture_of_a_known_group_is_on_its_side_whatever_the_settings() -> None:
    first = [picture(n, group=f"video {n}") for n in range(20)]
    sides = assign(first, {}, "folder", SETTINGS)
    later = [*first, *(picture(100 + n, group=f"video {n}") for n in range(20))]
    other = SETTINGS.model_copy(update={"holdout": 0.9})
    assigned = assign(later, sides.assigned, "folder", other).assigned
    splits = {row.group: row.split for row in sides.assigned.values()}
    assert {row.group: row.split for row in assigned.values()} == splits
    assert all(row.split == splits[row.group] for row in assigned.values())
