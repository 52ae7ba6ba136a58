"""The objectives say what their equations say, and a pair shares what it should."""

import math

import pytest
import torch

from lib.adapters.examples import Example, Probe, make_batch, squared_errors, structured_latent, velocity_errors
from lib.adapters.objectives import METHODS, Errors, diffusion_dpo, direct_reward, flow_matching, log1mexp, orpo
from lib.trellis.layers import grid_coords
from lib.trellis.losses import velocity_target
from lib.trellis.sparse import SparseTensor
from lib.trellis.tiny import tiny_pipeline

ERRORS = Errors(*[torch.tensor(x) for x in ([0.5, 1.0], [0.7, 0.4], [0.6, 0.8], [0.6, 0.9])])
COND = torch.randn(5, 32, generator=torch.Generator().manual_seed(9))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sparse(cells: list[int], value: float = 0.0) -> SparseTensor:
    coords = torch.cat([torch.zeros(len(cells), 1), grid_coords(16)[cells]], dim=1).int()
    return SparseTensor(torch.full((len(cells), 8), value), coords, 1)


def test_each_objective_is_its_equation_by_hand():
    loss, margin = diffusion_dpo(ERRORS, beta=1.0)
    assert margin.tolist() == pytest.approx([0.1, -0.35])
    assert loss.item() == pytest.approx((math.log(1 + math.exp(-0.1)) + math.log(1 + math.exp(0.35))) / 2)
    assert diffusion_dpo(ERRORS, beta=500.0)[1].tolist() == pytest.approx([50, -175])
    assert flow_matching(ERRORS, 0.1)[0].item() == pytest.approx(0.75)
    assert direct_reward(ERRORS, 0.1)[0].item() == pytest.approx((0.5 + 1.0 - 0.7 - 0.4) / 4)

    def log_odds(error):
        return math.log(math.exp(-error) / (1 - math.exp(-error)))

    ratios = [log_odds(0.5) - log_odds(0.7), log_odds(1.0) - log_odds(0.4)]
    loss, margin = orpo(ERRORS, beta=0.25)
    assert margin.tolist() == pytest.approx(ratios, rel=1e-5)
    assert loss.item() == pytest.approx(0.75 + 0.25 * sum(math.log(1 + math.exp(-r)) for r in ratios) / 2)


@pytest.mark.parametrize("name", METHODS)
def test_gradients_are_finite_differences(name):
    base = [x.double() for x in (ERRORS.winner_base, ERRORS.loser_base)]

    def loss(winner, loser):
        return METHODS[name].loss(Errors(winner, loser, *base), 0.5)[0]

    # orpo answers in float32 whatever it is given
    step, tolerance = (1e-2, 1e-2) if name == "orpo" else (1e-6, 1e-7)
    inputs = [x.double().requires_grad_() for x in (ERRORS.winner, ERRORS.loser)]
    found = torch.autograd.grad(loss(*inputs), inputs, allow_unused=True)
    for role in range(2):
        for i in range(2):
            shifted = [[x.detach().clone() for x in inputs] for _ in range(2)]
            for sign, moved in zip((1, -1), shifted, strict=True):
                moved[role][i] += sign * step
            wanted = (loss(*shifted[0]) - loss(*shifted[1])).item() / (2 * step)
            gradient = 0.0 if found[role] is None else found[role][i].item()
            assert gradient == pytest.approx(wanted, abs=tolerance)


def test_log1mexp_neither_cancels_nor_breaks_gradients():
    for x in (1e-30, 1e-10, 1e-3, 0.6, 0.7, 5.0, 40.0):
        value = torch.tensor(x, requires_grad=True)
        result = log1mexp(value)
        result.backward()
        exact = math.log(-math.expm1(-x)) if x < 1 else math.log1p(-math.exp(-x))
        assert result.item() == pytest.approx(exact, rel=2e-6)
        assert value.grad.item() == pytest.approx(1 / math.expm1(x), rel=2e-6)


def test_orpo_stays_finite_from_perfect_to_hopeless_answers():
    winner, loser = (torch.tensor(x, requires_grad=True) for x in ([1e-12, 90.0], [90.0, 1e-12]))
    loss, _ = orpo(Errors(winner, loser), 0.1)
    loss.backward()
    assert all(x.isfinite().all() for x in (loss, winner.grad, loser.grad))


def test_a_pair_of_structures_shares_noise_and_time():
    example = Example(COND, torch.zeros(8, 8, 8, 8), torch.ones(8, 8, 8, 8))
    batch = make_batch([example, example], seeded())
    assert batch.winners == 2
    assert torch.equal(batch.noise[:2], batch.noise[2:])
    assert torch.equal(batch.t[:2], batch.t[2:])
    assert not torch.equal(batch.noise[0], batch.noise[1])
    assert batch.t[0] != batch.t[1]
    assert torch.equal(batch.x_0[:, 0, 0, 0, 0], torch.tensor([0.0, 0.0, 1.0, 1.0]))


def test_structured_latents_share_noise_on_the_voxels_that_both_have():
    pair = Example(COND, sparse([1, 2, 3, 4]), sparse([4, 9, 2]))
    batch = make_batch([pair, Example(COND, sparse([1, 2]), sparse([2, 1]))], seeded())
    assert batch.x_0.coords[:, 0].tolist() == [0] * 4 + [1] * 2 + [2] * 3 + [3] * 2
    winner, other_winner, loser, other_loser = (batch.noise[rows] for rows in batch.x_0.slices())
    assert torch.equal(loser[0], winner[3])
    assert torch.equal(loser[2], winner[1])
    assert not (loser[1] == winner).any()
    assert torch.equal(other_loser, other_winner.flip(0))  # the same voxels in another order
    assert not torch.equal(other_winner[0], winner[0])  # another example has noise of its own
    assert len(torch.unique(batch.noise, dim=0)) == 7


def test_errors_are_summed_or_averaged_over_one_latent():
    batch = make_batch([Example(COND, sparse([1, 2, 3])), Example(COND, sparse([7]))], seeded())
    velocity = velocity_target(batch.x_0, batch.noise)
    velocity[0, 0] += 2
    velocity[3] += 1
    torch.testing.assert_close(squared_errors(velocity, batch, "sum"), torch.tensor([4.0, 8.0]))
    torch.testing.assert_close(squared_errors(velocity, batch, "mean"), torch.tensor([4 / 24, 1.0]))
    batch = make_batch([Example(COND, torch.zeros(8, 8, 8, 8))], seeded())
    velocity = velocity_target(batch.x_0, batch.noise) + 0.5
    torch.testing.assert_close(squared_errors(velocity, batch, "sum"), torch.tensor([0.25 * 8**4]))
    torch.testing.assert_close(squared_errors(velocity, batch, "mean"), torch.tensor([0.25]))


def test_a_share_of_the_conditions_is_dropped_for_winner_and_loser_alike():
    example = Example(COND, torch.zeros(8, 8, 8, 8), torch.ones(8, 8, 8, 8))
    cond = make_batch([example] * 200, seeded(), drop=0.25).cond
    blank = (cond == 0).all(-1).all(-1)
    assert torch.equal(blank[:200], blank[200:])
    assert 30 < blank[:200].sum() < 70
    assert torch.equal(cond[~blank][0], COND)


def test_a_sample_becomes_a_training_latent_and_back():
    pipeline = tiny_pipeline()
    pipeline.mean, pipeline.std = torch.full((8,), 2.0), torch.full((8,), 4.0)
    latent = structured_latent(pipeline, grid_coords(16)[:3], torch.full((3, 8), 10.0))
    assert latent.batch_size == 1
    torch.testing.assert_close(latent.feats, torch.full((3, 8), 2.0))
    assert torch.equal(latent.coords[:, 1:], grid_coords(16)[:3].int())


def test_the_probe_is_fixed_and_knows_an_empty_answer():
    flow = tiny_pipeline().models["slat_flow_model"]
    held = [Example(COND, sparse([1, 2, 3], 0.5), sparse([4])), Example(COND, sparse([5, 6], -0.5))]
    probe = Probe(held, seed=1)
    assert probe(flow).tolist() == probe(flow).tolist() == Probe(held, seed=1)(flow).tolist()
    assert probe(flow).tolist() != Probe(held, seed=2)(flow).tolist()
    assert probe.batch.t.tolist() == [0.5, 0.5]
    assert torch.equal(probe(flow), velocity_errors(flow, probe.batch, "mean"))  # one an example
    assert probe(flow).shape == (2,)
    squares = velocity_target(probe.batch.x_0, probe.batch.noise).square()
    assert probe.blank == pytest.approx((squares[:3].mean() + squares[3:].mean()).item() / 2)
