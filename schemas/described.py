"""Fields that say what they hold: in every shard, and from there in the dataset card.

A description gives unit and range, and what null means, where the name does not say it.
"""

import pyarrow as pa

_DESCRIPTION = b"description"
"""Key in the metadata of an Arrow field. Comparisons of schemas leave it out, so that shards by different
versions of the code are one dataset."""


def described(name: str, kind: pa.DataType, text: str) -> pa.Field:
    """A field that may be null, with its description."""
    return pa.field(name, kind, metadata={_DESCRIPTION: text})


def required(name: str, kind: pa.DataType, text: str) -> pa.Field:
    """A field that is never null, with its description."""
    return described(name, kind, text).with_nullable(False)


def description(field: pa.Field) -> str:
    """What was said of a field; empty where nothing was."""
    return (field.metadata or {}).get(_DESCRIPTION, b"").decode()
