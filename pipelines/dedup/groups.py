"""Groups of equals: each member is a pair with the group's first, so k of them make k - 1 pairs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Groups:
    """The groups of equals among some rows, each dataset for itself; all are indices into the rows.

    Attributes:
        firsts: The first row of each group, ordered by value, then by dataset.
        a: The first row of each group of dataset 0 …
        b: … and each other row of the group, and the first of each group in another dataset that equals it.
    """

    firsts: Indices
    a: Indices
    b: Indices


def equal_groups(values: NDArray[Any], datasets: NDArray[np.int32]) -> Groups:
    """Group equal values.

    Args:
        values: In the order of the rows, which says what the first of a group is.
        datasets: Of each row; 0 for the dataset whose duplicates are looked for.
    """
    distinct, codes = np.unique(values, return_inverse=True)
    num_datasets = int(datasets.max(initial=0)) + 1
    keys = codes.reshape(-1).astype(np.int64) * num_datasets + datasets
    keys, firsts, group = np.unique(keys, return_index=True, return_inverse=True)
    leader = firsts[group.reshape(-1)]
    members = np.flatnonzero((leader != np.arange(len(values))) & (datasets == 0))
    own_first = np.full(len(distinct), -1)
    own = datasets[firsts] == 0
    own_first[keys[own] // num_datasets] = firsts[own]
    partner = own_first[keys // num_datasets]
    copied = ~own & (partner >= 0)
    a = np.concatenate([leader[members], partner[copied]])
    b = np.concatenate([members, firsts[copied]])
    order = np.lexsort((b, a))
    return Groups(firsts=firsts, a=a[order], b=b[order])
