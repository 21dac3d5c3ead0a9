"""A large square matrix product: its rate is the most that the machine can do in a dtype."""

from __future__ import annotations

import torch


class SquareProduct:
    """Multiplies two random square matrices; call it to time it."""

    def __init__(self, size: int, dtype: torch.dtype, device: str = "cpu", products: int = 1) -> None:
        """Make the matrices, of `size` rows; a call does `products` of them one after another."""
        generator = torch.Generator(device).manual_seed(0)
        self.left, self.right = (
            torch.randn(size, size, generator=generator, device=device).to(dtype) for _ in range(2)
        )
        self.result = torch.empty_like(self.left)
        self.products = products

    @property
    def flops(self) -> int:
        """2 n^3 for each product of a call."""
        return 2 * len(self.left) ** 3 * self.products

    def __call__(self) -> None:
        """Multiply."""
        for _ in range(self.products):
            torch.mm(self.left, self.right, out=self.result)
