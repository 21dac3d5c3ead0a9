"""The columns of generated images: those of a job, of its scorers and of its prompt table are apart."""

import pyarrow as pa
import pytest

from schemas.generations import generations_schema


@pytest.mark.parametrize("given", ["scores", "passed_through"])
def test_a_column_named_like_one_of_the_output_is_refused(given: str) -> None:
    columns = {"scores": [], "passed_through": []} | {given: [pa.field("score", pa.float32())]}
    with pytest.raises(ValueError, match="columns score of the prompt table or of `scorers` have the names"):
        generations_schema(tokens=False, ranks=False, **columns)
