"""Nothing from outside breaks a table, a block or the metadata."""

from __future__ import annotations

import pytest
import yaml

from pipelines.cards.card import Card, Contents, front_matter, render, size_category
from pipelines.cards.markdown import as_yaml, code, text
from pipelines.cards.settings import CardSettings
from tests.pipelines.cards.reading_cards import cells_of, metadata_of

HOSTILE = "a|b\n# c `d` <script>e</script> --- ```f: *g*"


def test_text_stays_one_line_of_plain_words() -> None:
    assert text("a | b\n\n# c") == r"a \| b \# c"
    assert text("`x` <b> [l](u) *e* _f_") == r"\`x\` \<b\> \[l\](u) \*e\* \_f\_"


def test_code_spans_hold_backticks_and_pipes() -> None:
    assert code("plain") == "`plain`"
    assert code("a|b") == r"`a\|b`"
    assert code("a`b") == "``a`b``"
    assert code("`a`") == "`` `a` ``"
    assert code("") == ""


def test_a_block_of_yaml_is_not_ended_by_what_is_in_it() -> None:
    value = {"where": "caption <> '```'\n````\nend"}
    block = as_yaml(value)
    fence, *content, last = block.split("\n")
    assert fence == "`````yaml"
    assert last == "`````"
    assert yaml.safe_load("\n".join(content)) == value


def card(rows: int = 5, **stated: str) -> Card:
    return Card(
        title=HOSTILE,
        about="It is.",
        settings=CardSettings(**stated),
        layout="parquet",
        shown=("a", "b"),
        tags=(),
        facts={"model": code(HOSTILE)},
        counts={"rows": rows},
        failures={HOSTILE: 3},
        contents=Contents(code_version="git:1"),
    )


def test_a_card_of_hostile_names_has_its_tables_and_metadata() -> None:
    found = render(card(source=HOSTILE, contact=HOSTILE))
    assert metadata_of(found)["pretty_name"] == HOSTILE
    assert cells_of(found, text(HOSTILE)) == ["3"]
    assert cells_of(found, "source") == [text(HOSTILE)]
    assert len(cells_of(found, "model")) == 1
    assert [line for line in found.splitlines() if line.startswith("# ")] == [f"# {text(HOSTILE)}"]
    assert "<script>" not in found.split("---\n", 2)[2].replace(code(HOSTILE), "")


@pytest.mark.parametrize(
    ("rows", "category"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (10**5, "100K<n<1M"),
        (10**6 - 1, "100K<n<1M"),
        (10**12 - 1, "100B<n<1T"),
        (10**12, "n>1T"),
    ],
)
def test_sizes_are_named_as_hugging_face_does(rows: int, category: str) -> None:
    assert size_category(rows) == category
    assert front_matter(card(rows))["size_categories"] == [category]


@pytest.mark.parametrize("license", ["", " ", "a b", "-x"])
def test_a_license_is_an_identifier(license: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        CardSettings(license=license)
