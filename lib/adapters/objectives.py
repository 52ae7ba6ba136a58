"""The objectives, each a function of squared velocity errors; all of one latent are summed or averaged (reduction).

An error e of a flow v at time t is |v(x_t, t) - (noise - x_0)|^2. Every objective gives the loss, and for a pair how
strongly the flow takes the winner's side: the implicit accuracy is the share of pairs where this margin is positive.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

REDUCTIONS = "sum", "mean"


@dataclass(frozen=True, eq=False)
class Errors:
    """Squared errors of winners and losers [B], the same pairs in the same order, and those without the adapter."""

    winner: Tensor
    loser: Tensor
    winner_base: Tensor | None = None
    loser_base: Tensor | None = None


def flow_matching(errors: Errors, beta: float) -> tuple[Tensor, None]:
    """mean(e_w): flow matching (arXiv 2210.02747) on the winners, the objective the flow was made with; no beta."""
    return errors.winner.mean(), None


def diffusion_dpo(errors: Errors, beta: float) -> tuple[Tensor, Tensor]:
    """-log sigmoid(m), m = -beta/2 [(e_w - base e_w) - (e_l - base e_l)]: Diffusion-DPO (arXiv 2311.12908).

    The mean over pairs is taken outside the logarithm. The half is that of a Gaussian's log-density, as in DSO
    (arXiv 2503.22677). Betas go with a reduction: language models' 0.1 or 0.5 with sums, 500 to 5000 with means.
    """
    margin = -0.5 * beta * ((errors.winner - errors.winner_base) - (errors.loser - errors.loser_base))
    return -F.logsigmoid(margin).mean(), margin


def orpo(errors: Errors, beta: float) -> tuple[Tensor, Tensor]:
    """mean(e_w) - beta log sigmoid(log odds_w - log odds_l), odds = p / (1 - p): ORPO (arXiv 2403.07691).

    ORPO's p is the likelihood of a text, its log averaged over tokens. A flow has none at hand. In its place stands
    p = exp(-e) with e averaged over elements, at one time and one noise: up to a constant and a factor the log-density
    of a Gaussian around the flow's answer. It is 1 for a perfect answer and says nothing of the whole sample.
    """
    winner, loser = (_log_odds(e.float()) for e in (errors.winner, errors.loser))
    margin = winner - loser
    return (errors.winner - beta * F.logsigmoid(margin)).mean(), margin


def direct_reward(errors: Errors, beta: float) -> tuple[Tensor, None]:
    """mean(r e) with r = 1 for winners and -1 for losers: DSO's direct reward optimization (arXiv 2503.22677).

    Neither pairs nor base nor beta. It has no lower bound: the error of losers can be raised for ever.
    """
    return torch.cat([errors.winner, -errors.loser]).mean(), None


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(-x)) for x > 0 without cancellation, its gradient too (Maechler 2012)."""
    near, far = x.clamp(max=math.log(2)), x.clamp(min=math.log(2))
    return torch.where(x < math.log(2), torch.log(-torch.expm1(-near)), torch.log1p(-torch.exp(-far)))


def _log_odds(error: Tensor) -> Tensor:
    return -error - log1mexp(error)


@dataclass(frozen=True)
class Method:
    """An objective and what it wants. alone: a winner without a loser will do, and a loser without a winner."""

    loss: Callable[[Errors, float], tuple[Tensor, Tensor | None]]
    reads: tuple[str, ...]
    reduction: str  # unless another is asked for
    base: bool = False  # whether errors without the adapter are needed
    alone: bool = False


PAIR = "winner", "loser"
METHODS = {
    "sft_best": Method(flow_matching, ("winner",), "mean"),  # winner: the judge's favorite of the flow's own samples
    "sft_clean": Method(flow_matching, ("winner",), "mean"),  # condition: degraded photo, winner: of the clean one
    "dpo": Method(diffusion_dpo, PAIR, "sum", base=True),  # betas of 0.1 and 0.5 suggest sums
    "orpo": Method(orpo, PAIR, "mean"),  # which also makes p comparable among latents of different size
    "dro": Method(direct_reward, PAIR, "mean", alone=True),
}
