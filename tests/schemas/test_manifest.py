"""A manifest's bytes follow from its entries; long ones come in parts."""

import json

from schemas.manifest import ObjectEntry, Section, json_bytes


def _entries(count: int) -> list[ObjectEntry]:
    return [ObjectEntry.of(f"data/{n}.parquet", b"x" * n, rows=n) for n in range(count)]


def test_a_short_section_names_its_objects() -> None:
    section = Section("data", part_objects=3)
    assert [section.add(entry) for entry in _entries(3)] == [None] * 3
    value, last = section.end()
    assert last is None
    assert [entry["path"] for entry in value["objects"]] == [f"data/{n}.parquet" for n in range(3)]


def test_a_long_section_names_parts_that_hold_all_objects() -> None:
    section = Section("data", part_objects=10)
    files = [part for entry in _entries(25) if (part := section.add(entry))]
    value, last = section.end()
    assert last is not None
    files.append(last)
    assert [part["rows"] for part in value["parts"]] == [10, 10, 5]
    assert [part["path"] for part in value["parts"]] == [path for path, _ in files]
    objects = [entry for _, data in files for entry in json.loads(data)["objects"]]
    assert [entry["path"] for entry in objects] == [entry.path for entry in _entries(25)]
    assert "objects" not in value


def test_json_is_the_same_for_equal_values() -> None:
    assert json_bytes({"b": 1, "a": "é"}) == json_bytes({"a": "é", "b": 1}) == '{"a":"é","b":1}\n'.encode()
