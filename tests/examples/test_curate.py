"""Each planted defect is found by its rule, in a collection that no threshold was chosen on."""

import pyarrow.parquet as pq
import pytest

from examples.shapes.curate import CONFIG, decisions
from examples.shapes.defects import CLEAN, DUPLICATES, collection, write_collection
from pipelines.config import load_config
from pipelines.curation.passes import Curation
from pipelines.curation.settings import CurateConfig

RULES = {
    **dict.fromkeys(DUPLICATES, "duplicates"),
    "blurred": "blur",
    "noisy": "noise",
    "over-compressed": "blocks",
    "letterboxed": "borders",
    "over-exposed": "exposure",
    "wrong caption": "caption",
    "too small": "too small",
    "truncated": "decode: TruncatedImageError",
    "empty": "read: SampleError",
    "not an image": "decode: UnknownFormatError",
}


@pytest.mark.reliability
@pytest.mark.ray
def test_every_defect_is_found_by_its_rule(tmp_path, local_ray: None) -> None:  # type: ignore[no-untyped-def]
    samples = collection(num_clean=120, num_each=6, seed=1)
    write_collection(tmp_path / "raw", samples)
    places = [f"input={tmp_path / 'raw' / 'images'}", f"output={tmp_path / 'out'}", "score.models.num_gpus=0"]
    curation = Curation(load_config(CurateConfig, CONFIG, places))
    curation.score(), curation.find_duplicates(), curation.select()
    truth = {sample.key: sample.defect for sample in samples}
    found = {row["key"]: row["rule"] for row in decisions(curation, [sample.key for sample in samples])}
    assert {key: found[key] for key, defect in truth.items() if defect == CLEAN} == dict.fromkeys(
        (key for key, defect in truth.items() if defect == CLEAN), None
    )
    wrong = {
        k: (defect, found[k]) for k, defect in truth.items() if defect != CLEAN and found[k] != RULES[defect]
    }
    assert wrong == {}
    exported = curation.export()
    assert exported is not None
    assert exported.rows_out == 120
    assert pq.read_table(tmp_path / "out/datasets/clean/data/00000.parquet").num_rows == 120
