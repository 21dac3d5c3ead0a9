"""What a recipe's author may write in SQL."""

import pytest

from pipelines.selection.expressions import RecipeError, columns_in

COLUMNS = ["caption", "clip", "width", "Mixed Case"]


@pytest.mark.parametrize(
    ("expression", "columns"),
    [
        ("clip > 0.2 AND caption NOT LIKE '%width%'", ["caption", "clip"]),
        ("WIDTH > 5", ["width"]),
        ('"mixed case" = 1', ["Mixed Case"]),
        ("images.clip > 1 -- a remark", ["clip"]),
        ("clip > avg(clip) OVER (PARTITION BY width)", ["clip", "width"]),
        ("len(list_filter([1, 2], lambda x: x > clip)) > 0", ["clip"]),
        ("true", []),
    ],
)
def test_columns_are_found_in_expressions(expression: str, columns: list[str]) -> None:
    assert columns_in("x", expression, COLUMNS) == columns


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("clipp > 1", "no column 'clipp' in the scores; did you mean 'clip'"),
        ("(SELECT count(*) FROM read_csv('/etc/passwd')) > 0", "subquery"),
        ("EXISTS (FROM '/etc/passwd')", "subquery"),
        ("clip > (SELECT avg(clip) FROM images)", "subquery"),
        ("clip > random()", r"'random' differs from run to run"),
        ("current_date > '2020-01-01'", "'current_date' differs"),
        ("current_setting('temp_directory') = ''", "'current_setting' differs"),
        ("true; DROP TABLE images", "not an SQL expression"),
        ("true); DROP TABLE images; SELECT (true", "not an SQL expression"),
        ("true); SELECT (true", "not one SQL expression"),
        ("true), (false", "not one SQL expression"),
        ("1=1) or (1=1", "not an SQL expression"),
        ("1) FROM images UNION SELECT (2", "not one SQL expression"),
        ("PRAGMA version", "not an SQL expression"),
        ("COPY images TO '/tmp/x.csv'", "not an SQL expression"),
        ("clip >", "not an SQL expression"),
        ("COLUMNS(*) > 1", "name each"),
        ("clip > $1", "write the value"),
    ],
)
def test_all_else_is_refused_with_the_rule_and_the_expression(expression: str, why: str) -> None:
    with pytest.raises(RecipeError, match=why) as raised:
        columns_in("my rule", expression, COLUMNS)
    assert str(raised.value).startswith(f"rule 'my rule': '{expression}': ")
