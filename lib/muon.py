"""Muon (Jordan et al., 2024), the optimizer of matrices, in the type that this machine multiplies fastest.

`torch.optim.Muon` always multiplies in bfloat16, which takes ten times as long as float32 on a CPU without
instructions for it, and then longer than the model itself.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from lib.placement import fast_bfloat16

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the iteration x -> a x + b (x x^T) x + c (x x^T)^2 x
ITERATIONS = 5
SMALLEST = 1e-7  # norm that a gradient is divided by
MATCHED = 0.2  # rms of an update beside AdamW's (arXiv 2502.16982)


class Muon(torch.optim.Optimizer):
    """Momentum, then the nearest matrix whose singular values are about 1, scaled so that AdamW's rates and decay do.

    As `torch.optim.Muon` with adjust_lr_fn="match_rms_adamw". params: matrices; raises ValueError for others.
    """

    def __init__(self, params: Iterable, lr: float, weight_decay: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        if any(p.ndim != 2 for group in self.param_groups for p in group["params"]):
            raise ValueError("Muon is for matrices alone")

    @torch.no_grad()
    def step(self):
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                average = state["momentum_buffer"]
                average.lerp_(weight.grad, 1 - group["momentum"])
                update = orthogonal(weight.grad.lerp(average, group["momentum"]))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-group["lr"] * MATCHED * max(weight.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """About U V^T of a matrix U S V^T, by a few steps of a polynomial: singular values of 0.7 to 1.2."""
    x = matrix.bfloat16() if fast_bfloat16(matrix.device) else matrix
    x = x.T if len(matrix) > matrix.shape[1] else x
    x = x / x.norm().clamp(min=SMALLEST)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.T if len(matrix) > matrix.shape[1] else x
