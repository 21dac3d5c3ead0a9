"""Package a generated set for other programs: Parquet as Hugging Face shows it, or WebDataset tars.

summary = plan_packaging(load_config(PackageConfig, …, ["input=out/run", "output=out/packed"])).open().run()
"""

from pipelines.packaging.job import PackagingJob, PackagingPlan, open_packaging_retry, plan_packaging
from pipelines.packaging.settings import PackageConfig
from pipelines.packaging.shard_plan import PackagingError

__all__ = [
    "PackageConfig",
    "PackagingError",
    "PackagingJob",
    "PackagingPlan",
    "open_packaging_retry",
    "plan_packaging",
]
