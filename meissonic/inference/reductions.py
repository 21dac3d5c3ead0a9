"""Which exact reductions are on."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reductions:
    """Ways to compute the same tokens with less. All are on; a benchmark turns one off to see what it gives.

    Each leaves the formula as it is: results differ by the rounding of another order of sums.
    """

    guidance_first: bool = True
    """Guidance before the head's last product, which is linear."""
    masked_only: bool = True
    """The head, and without compression the last block, at masked positions alone."""
    token_lookup: bool = True
    """Embedding, norms and convolutions of a token looked up: they depend on its value alone."""
    merged_head: bool = True
    """The last linear layer before the head and the head's first one as a single product."""
    joined_products: bool = True
    """All products of one input as one: a block's queries, keys, values and MLP; a step's modulations."""
    cached_first_step: bool = True
    """The unconditional half of the first step, where all is masked, once for all images."""
    cached_text: bool = True
    """Each text encoded once."""
    one_pass_draw: bool = True
    """Draw and confidence without normalised probabilities."""

    @classmethod
    def none(cls) -> Reductions:
        """All off."""
        return cls(**{field.name: False for field in dataclasses.fields(cls)})

    def without(self, name: str) -> Reductions:
        """One more off."""
        return dataclasses.replace(self, **{name: False})
