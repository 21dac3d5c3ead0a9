"""Where curation's images come from: tars, Parquet, folders, URL tables, datasets of this project.

source = open_source("s3://bucket/raw", SourceSettings(), "s3://bucket/out/index", taken)
table = source.read(unit)    # SOURCE_ROWS of schemas.images, then the source's other columns
"""

from pipelines.sources.interface import ImageSource, SourceError
from pipelines.sources.opening import open_source
from pipelines.sources.settings import ColumnNames, FetchSettings, SourceSettings

__all__ = ["ColumnNames", "FetchSettings", "ImageSource", "SourceError", "SourceSettings", "open_source"]
