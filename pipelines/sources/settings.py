"""Settings of curation's inputs."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator

from pipelines.config import Config, Operational
from pipelines.images import RowImages
from pipelines.web import HEADER_TEXT, PLAIN, Manners

JsonType = Literal["string", "int64", "float64", "bool"]


class FetchSettings(Config):
    """How images are fetched from the web.

    Attributes:
        requests_per_second_per_host: Of the whole cluster, for each host that URLs name.
        burst: Requests to a host that may go at once after a pause.
        connections_per_host: Of one reading task.
        threads: Connections of one reading task.
        attempts: Requests for an image whose server is busy, too slow or out of reach.
        max_retry_after_s: Seconds to wait at most before the next of them; where the server asks for more,
            there is none.
        user_agent: For the User-Agent header; best with an address for complaints.
        robots_name: The name by which an X-Robots-Tag header may address this program alone.
        refused_directives: Directives of X-Robots-Tag that forbid the use of an image; by default those that
            img2dataset honours.
        verify_hashes: Whether an image must have the SHA-256 or MD5 that the table's `sha256` or `md5` tells:
            what stands at a URL may have changed since the table was made.
    """

    requests_per_second_per_host: Annotated[PositiveFloat, Operational()] = 10.0
    burst: Annotated[PositiveInt, Operational()] = 20
    connections_per_host: Annotated[PositiveInt, Operational()] = 4
    threads: Annotated[PositiveInt, Operational()] = 32
    attempts: Annotated[PositiveInt, Operational()] = 3
    max_retry_after_s: Annotated[NonNegativeFloat, Operational()] = 60.0
    user_agent: Annotated[str, Field(pattern=HEADER_TEXT), Operational()] = PLAIN.user_agent
    robots_name: str = PLAIN.robots_name
    refused_directives: tuple[str, ...] = ("noai", "noimageai", "noindex", "noimageindex")
    verify_hashes: bool = True

    @property
    def manners(self) -> Manners:
        """Those of each request."""
        return Manners(
            user_agent=self.user_agent,
            robots_name=self.robots_name,
            refused_directives=frozenset(name.lower() for name in self.refused_directives),
        )


class ColumnNames(Config):
    """Which columns of Parquet files have what; None to go by the names in `pipelines.sources.columns`.

    Attributes:
        image: Images: a struct of bytes and path, bytes, or paths and URIs as text.
        url: Their URLs; only where there is no image column.
        caption: Their captions.
        uid: Their 128-bit ids in hexadecimal; other values count as none.
        key: Their names.
    """

    image: str | None = None
    url: str | None = None
    caption: str | None = None
    uid: str | None = None
    key: str | None = None


class SourceSettings(Config):
    """What the images of curation are read from, and within which limits.

    Attributes:
        kind: What the input is; "auto" to tell by what is there.
        columns: Columns of Parquet files.
        json_columns: Keys of `.json` files that become columns of their own, and the type of their values;
            others are null. The whole text is in the column `json` in any case.
        max_caption_bytes: Of a caption, in UTF-8.
        max_json_bytes: Of a `.json` file.
        row_images: Limits of an image, and which files and URLs the rows of a table may name.
        fetch: How images are fetched from the web.
        max_unit_bytes: Of all images of a unit; they are in memory at once.
    """

    kind: Literal["auto", "webdataset", "parquet", "folder"] = "auto"
    columns: ColumnNames = ColumnNames()
    json_columns: dict[str, JsonType] = Field(default={"url": "string"})
    max_caption_bytes: PositiveInt = 1 << 20
    max_json_bytes: PositiveInt = 1 << 20
    row_images: RowImages = RowImages()
    fetch: FetchSettings = FetchSettings()
    max_unit_bytes: Annotated[PositiveInt, Operational()] = 2 << 30

    @field_validator("json_columns")
    @classmethod
    def _other_than_json(cls, columns: dict[str, JsonType]) -> dict[str, JsonType]:
        if "json" in columns:
            raise ValueError("the column 'json' has the whole text; call no key so")
        return columns
