"""The transformer as the sampler runs it: the same function, with less to compute."""

from meissonic.inference.blocks import Reuse
from meissonic.inference.network import Conditions, Network
from meissonic.inference.reductions import Reductions

__all__ = ["Conditions", "Network", "Reductions", "Reuse"]
