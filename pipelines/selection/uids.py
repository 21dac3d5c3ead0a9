"""Exchange subsets as DataComp does: a sorted NumPy file of 128-bit ids, as pairs of 64-bit halves."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

UIDS = np.dtype("u8,u8")


def uids_array(uids: Sequence[str]) -> NDArray[np.void]:
    """The ids, of 32 hexadecimal digits each: dtype "u8,u8", the high half first; not sorted."""
    halves = np.frombuffer(bytes.fromhex("".join(uids)), ">u8").astype("u8").reshape(-1, 2)
    array = np.zeros(len(uids), UIDS)
    array["f0"], array["f1"] = halves[:, 0], halves[:, 1]
    return array


def uids_bytes(arrays: Sequence[NDArray[np.void]]) -> bytes:
    """The ids in these arrays as a `.npy` file, sorted."""
    array = np.concatenate([np.zeros(0, UIDS), *arrays])
    buffer = io.BytesIO()
    np.save(buffer, array[np.lexsort((array["f1"], array["f0"]))], allow_pickle=False)
    return buffer.getvalue()
