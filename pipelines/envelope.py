"""One unit as one row of a Ray Data block.

Ray Data merges and splits blocks as it likes; a row it never splits. So a unit travels as a single row: its
facts as JSON, each of its tables as an Arrow IPC stream.
"""

import json
import struct
from typing import Any

import pyarrow as pa

_FACTS = "facts"


def wrap(facts: dict[str, Any], tables: dict[str, pa.Table]) -> pa.Table:
    """The one-row block that carries these facts and tables."""
    columns: dict[str, pa.Array] = {_FACTS: pa.array([json.dumps(facts)], pa.string())}
    for name, table in tables.items():
        columns[name] = _one_binary(_ipc_bytes(table))
    return pa.table(columns)


def unwrap(block: pa.Table) -> tuple[dict[str, Any], dict[str, pa.Table]]:
    """The facts and tables of a one-row block; the tables share the block's memory.

    Raises:
        ValueError: The block does not have exactly one row.
    """
    if block.num_rows != 1:
        raise ValueError(f"a block of {block.num_rows} units; each must travel alone (batch_size=1)")
    names = [name for name in block.column_names if name != _FACTS]
    streams = {name: block[name][0].as_buffer() for name in names}
    tables = {name: pa.ipc.open_stream(stream).read_all() for name, stream in streams.items()}
    return json.loads(block[_FACTS][0].as_py()), tables


def _ipc_bytes(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _one_binary(data: pa.Buffer) -> pa.Array:
    """An array of one value, without a copy of it."""
    offsets = pa.py_buffer(struct.pack("<qq", 0, data.size))
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, data])
