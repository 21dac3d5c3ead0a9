"""A manifest's bytes follow from its entries; long ones come in parts."""

import json

from schemas.manifest import ObjectEntry, json_bytes, section


def _entries(count: int) -> list[ObjectEntry]:
    return [ObjectEntry.of(f"data/{n}.parquet", b"x" * n, rows=n) for n in range(count)]


def test_a_short_section_names_its_objects() -> None:
    value, files = section("data", _entries(3))
    assert files == {}
    assert [entry["path"] for entry in value["objects"]] == [
        "data/0.parquet",
        "data/1.parquet",
        "data/2.parquet",
    ]


def test_a_long_section_names_parts_that_hold_all_objects() -> None:
    value, files = section("data", _entries(25), part_objects=10)
    assert [part["rows"] for part in value["parts"]] == [10, 10, 5]
    assert [part["path"] for part in value["parts"]] == list(files)
    objects = [entry for data in files.values() for entry in json.loads(data)["objects"]]
    assert [entry["path"] for entry in objects] == [entry.path for entry in _entries(25)]
    assert "objects" not in value


def test_json_is_the_same_for_equal_values() -> None:
    assert json_bytes({"b": 1, "a": "é"}) == json_bytes({"a": "é", "b": 1}) == '{"a":"é","b":1}\n'.encode()
