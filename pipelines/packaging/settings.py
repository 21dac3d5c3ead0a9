"""Configuration of the job `package`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipelines.cards.settings import CardSettings
from pipelines.config import Config, Operational, Resources

SetFormat = Literal["huggingface", "webdataset"]


class PackageConfig(Config):
    """How a generated set is packaged for other programs.

    Attributes:
        input: Output folder of a finished `generate` job.
        output: Folder of the packaged set, local or s3://.
        format: `huggingface`: Parquet shards with the images in them; `webdataset`: tars, with a Parquet file
            and statistics beside each.
        where: SQL condition over the set's columns, which packaged images fulfil; null takes them all.
        keep_tokens: Whether token grids and embeddings come along; in Parquet alone.
        shard_rows: Images a shard at most.
        shard_bytes: About so many bytes of images a shard; a shard is in memory as a whole.
        workers: The workers.
        unit_timeout_s: Seconds that a worker may take for a shard.
        upload: Repository of the Hugging Face hub to upload the set to, `hf://datasets/OWNER/NAME`; null for
            none.
        revision: Branch of it; one that is not there is made.
        private: Whether only its owner may see the repository.
        card: What the dataset card says of licence and origin.
    """

    input: Annotated[str, Operational()]
    output: Annotated[str, Operational()]
    format: SetFormat = "huggingface"
    where: str | None = None
    keep_tokens: bool = False
    shard_rows: int = Field(default=10_000, ge=1, le=10_000)
    shard_bytes: int = Field(default=500_000_000, ge=1, le=1 << 30)
    workers: Annotated[Resources, Operational()] = Resources(num_cpus=0.5, threads_per_actor=1)
    unit_timeout_s: Annotated[float, Operational()] = Field(default=3600.0, gt=0)
    upload: Annotated[str | None, Operational()] = Field(
        default=None, pattern=r"^hf://datasets/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$"
    )
    revision: Annotated[str, Operational()] = "main"
    private: Annotated[bool, Operational()] = True
    card: Annotated[CardSettings, Operational()] = CardSettings()
