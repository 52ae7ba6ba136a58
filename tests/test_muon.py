"""The optimizer of matrices: torch's own steps, in the type that is fast here."""

from copy import deepcopy

import pytest
import torch

from lib import muon
from lib.muon import Muon, orthogonal

SHAPES = (64, 160), (160, 64), (96, 96)
RATE, DECAY = 0.01, 0.05


def weights(seed: int) -> list[torch.nn.Parameter]:
    draws = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=draws)) for shape in SHAPES]


def moved(optimizer: torch.optim.Optimizer, parts: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    """Where three steps on the same gradients take the weights."""
    draws = torch.Generator().manual_seed(7)
    for _ in range(3):
        for part in parts:
            part.grad = torch.randn(part.shape, generator=draws)
        optimizer.step()
    return [part.detach() for part in parts]


def ours(parts) -> list[torch.Tensor]:
    return moved(Muon(parts, lr=RATE, weight_decay=DECAY), parts)


def theirs(parts) -> list[torch.Tensor]:
    return moved(torch.optim.Muon(parts, lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"), parts)


def test_in_bfloat16_it_is_torchs_own_to_the_bit(monkeypatch):
    monkeypatch.setattr(muon, "fast_bfloat16", lambda device: True)
    torch.testing.assert_close(ours(weights(1)), theirs(weights(1)), rtol=0, atol=0)


def test_in_float32_it_takes_the_same_steps_but_for_rounding(monkeypatch):
    monkeypatch.setattr(muon, "fast_bfloat16", lambda device: False)
    begun = weights(1)
    for start, one, other in zip(begun, ours(weights(1)), theirs(weights(1)), strict=True):
        step = (other - start).norm()
        assert 0 < (one - other).norm() < 0.05 * step


def test_in_float32_nothing_is_rounded_to_16_bits(monkeypatch):
    monkeypatch.setattr(muon, "fast_bfloat16", lambda device: False)
    matrix = weights(2)[0].detach()
    assert (orthogonal(matrix) != orthogonal(matrix).bfloat16()).any()
    monkeypatch.setattr(muon, "fast_bfloat16", lambda device: True)
    assert orthogonal(matrix).dtype == torch.bfloat16


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_become_one_about(shape, monkeypatch):
    monkeypatch.setattr(muon, "fast_bfloat16", lambda device: False)
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    assert s.max() > 10
    near = torch.linalg.svdvals(orthogonal(matrix))
    assert near.max() < 1.3
    assert near[: len(near) // 2].min() > 0.6  # those that are nearly 0 need more steps
    assert (torch.cosine_similarity(orthogonal(matrix).flatten(), (u @ v).flatten(), dim=0)) > 0.9


def test_a_weight_without_a_gradient_stays_and_a_vector_is_refused():
    (still, *_), kept = (parts := weights(4)), weights(4)[0].detach()
    parts[1].grad = torch.ones_like(parts[1])
    Muon(parts, lr=RATE, weight_decay=DECAY).step()
    torch.testing.assert_close(still.detach(), kept, rtol=0, atol=0)
    with pytest.raises(ValueError, match="matrices"):
        Muon([torch.nn.Parameter(torch.ones(3))], lr=RATE, weight_decay=DECAY)


def test_training_goes_on_from_its_state(monkeypatch):
    monkeypatch.setattr(muon, "fast_bfloat16", lambda device: False)
    first = weights(5)
    optimizer = Muon(first, lr=RATE, weight_decay=DECAY)
    moved(optimizer, first)
    second = [torch.nn.Parameter(part.detach().clone()) for part in first]
    resumed = Muon(second, lr=RATE, weight_decay=DECAY)
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))
    torch.testing.assert_close(moved(resumed, second), moved(optimizer, first), rtol=0, atol=0)
