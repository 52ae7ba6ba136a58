"""Structured latents: what they are learned from, that everything learns, and that nothing sees what is held out."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from test_generator_train import tiny
from torch import nn

from lib.data.compare import mesh_error
from lib.data.procedural import furniture
from lib.generator import gaussians, slat, slat_flow
from lib.generator.collection import Collection, write_collection
from lib.generator.examine import outer_surface
from lib.renderers.cameras import Camera
from lib.renderers.splats import render_splats, surface_splats
from lib.training import Budget, fit, seeded
from lib.trellis.checkpoints import build_model
from lib.trellis.export import to_trimesh
from lib.trellis.mesh_extraction import extract_mesh

RECIPE = tiny(Budget(steps=1))
RECIPE = replace(RECIPE, data=replace(RECIPE.data, photos=2))
CHAIR, BED = 0, 4  # the bed ends in flat boards at the border of the grid


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Sixteen objects, eight of them held out."""
    return Collection(RECIPE.data, write_collection(RECIPE, tmp_path_factory.mktemp("slat") / "data", workers=1))


@pytest.fixture(scope="module")
def scratch(data, tmp_path_factory):
    """Latents of an untrained encoder, and conditions that tell object and side: [i, view, mirror] = i + mirror / 2."""
    folder = tmp_path_factory.mktemp("latents")
    slat.write_latents(networks(noisy=True)["slat_encoder"], data, folder)
    of = torch.arange(len(data))[:, None, None] + torch.tensor([0, 0.5])
    np.save(folder / "conditions.npy", of[..., None, None].expand(-1, 2, -1, 3, 32).half().numpy())
    return folder


def networks(noisy=False):
    """Untrained; noisy: also those layers that start at zero are random."""

    def build(args):
        network = build_model(*args)
        for parameter in network.parameters() if noisy else []:
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
        return network

    return nn.ModuleDict(
        {role: seeded(1, lambda args=args: build(args)) for role, args in RECIPE.slat.networks.items()}
    )


@pytest.mark.parametrize(("index", "mirror"), [(CHAIR, True), (BED, False)])
def test_cells_that_answer_as_the_field_says_become_the_true_colored_mesh(data, index, mirror):
    fields = slat.Fields.of(data, [index], mirror, "cpu")
    nodes = slat.corner_nodes()
    cells = torch.zeros(len(fields.distance), 64, 101)
    cells[..., :8] = fields.distance[:, nodes] + 1 / 64
    cells[..., 53:].unflatten(-1, (8, 6))[..., :3] = torch.logit(fields.color[:, nodes], eps=1e-4)
    decoder = networks()["slat_decoder_mesh"]
    fine = decoder.cells(fields.voxels.with_feats(torch.zeros(len(cells), 8))).coords[:, 1:]
    mesh = to_trimesh(extract_mesh(fine, cells.flatten(0, 1), 64, fill_interior=True, block=4))
    item = furniture("train", index)
    side = [-1 if mirror else 1, 1, 1]
    true = outer_surface(item)
    true.vertices = true.vertices * side
    assert mesh_error(true, mesh, n_points=3000).f_score > 0.97
    color = mesh.visual.vertex_colors[:, :3] / 255
    assert np.abs(color - item.color(mesh.vertices * side)).mean() < 0.03


def test_latents_are_the_encoders_answers_plain_and_mirrored_with_mean_0_and_deviation_1(data, scratch):
    latents, encoder = slat.Latents(data, scratch), networks(noisy=True)["slat_encoder"]
    known = torch.cat([latents(range(data.trained), mirror, "cpu").feats for mirror in (False, True)])
    assert known.mean(0).abs().max() < 0.02
    assert (known.std(0) - 1).abs().max() < 0.02
    for mirror in (False, True):
        seen = latents([3, 10], mirror, "cpu")
        fields = slat.Fields.of(data, [3, 10], mirror, "cpu")
        with torch.no_grad():
            expected = (encoder(fields.encoder_input()).feats - torch.from_numpy(latents.mean)) / latents.std
        assert torch.equal(seen.coords, fields.voxels.coords)
        assert (seen.feats - expected).abs().max() < 0.05
    assert not torch.allclose(latents([3], True, "cpu").feats, latents([3], False, "cpu").feats, atol=0.1)


def test_batches_hold_as_many_objects_as_fit_and_one_at_least():
    sizes = np.array([500, 300, 900, 100])
    assert slat.fill(sizes, np.array([1, 3, 0, 2]), 900) == [1, 3, 0]
    assert slat.fill(sizes, np.array([2, 0]), 100) == [2]


class Spy(nn.Module):
    """A flow that keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.zeros(1)), []

    def forward(self, x, t, cond):
        self.seen.append((x, t, cond))
        return x.with_feats(x.feats * self.weight)


def test_the_flow_sees_latents_and_condition_of_the_same_object_and_side(data, scratch):
    spy = Spy()
    loss = slat_flow.FlowLoss(nn.ModuleDict({"slat_flow_model": spy}), data, RECIPE, scratch)
    for step in range(1, 40):
        loss(step)
    sides, dropped = set(), 0
    for x, t, cond in spy.seen:
        assert ((t > 0) & (t < 1000)).all()
        for item, told in zip(x.items(), cond[:, 0, 0].tolist(), strict=True):
            if told == 0 and not torch.equal(item.coords[:, 1:], data["cells"][0].int()):
                dropped += 1
                continue
            number, mirror = int(told), told % 1 == 0.5
            cells = slat.mirrored_cells(data["cells"][number]) if mirror else data["cells"][number]
            assert torch.equal(item.coords[:, 1:], cells.int())
            assert number < data.trained
            sides.add(mirror)
    assert sides == {False, True}
    assert 0 < dropped < 30


def test_the_loss_of_a_step_is_always_the_same(data, scratch):
    both = networks()
    for loss in (
        slat.AutoencoderLoss(both, data, RECIPE),
        slat_flow.FlowLoss(both, data, RECIPE, scratch),
        gaussians.GaussianLoss(both, data, RECIPE, scratch),
    ):
        assert loss(3)[0].item() == loss(3)[0].item()
        assert loss(3)[0].item() != loss(4)[0].item()


def test_training_never_sees_what_is_held_out(data):
    poisoned = Collection(RECIPE.data, data.paths)
    for one in poisoned["sdf"][data.trained :]:
        one.fill_(torch.nan)
    loss = slat.AutoencoderLoss(networks(), poisoned, RECIPE)
    with torch.no_grad():
        assert all(loss(step)[0].isfinite() for step in range(1, 7))
        assert np.isnan(loss(0)[1]["color, held out"])


def test_the_autoencoder_learns_and_leaves_deformation_and_weights_at_zero(data, tmp_path):
    both, one = networks(), Collection(replace(RECIPE.data, held=15), data.paths)  # one object, learned by heart
    loss = slat.AutoencoderLoss(both, one, RECIPE)
    parts = nn.ModuleDict({role: both[role] for role in ("slat_encoder", "slat_decoder_mesh")})
    with torch.no_grad():
        before = loss(1)[1]
    fit(parts, loss, Budget(steps=30), tmp_path / "vae.pt", 5e-3)
    with torch.no_grad():
        after = loss(1)[1]
    assert all(after[name] < before[name] for name in ("distance", "color", "sign"))
    out = both["slat_decoder_mesh"].out_layer
    assert not out.weight[8:53].any()
    assert not out.bias[8:53].any()
    assert out.weight[:8].any()


def test_flow_and_gaussians_learn(data, scratch, tmp_path):
    both = networks()
    loss = gaussians.GaussianLoss(both, data, RECIPE, scratch)
    fit(nn.ModuleDict({"decoder": loss.decoder}), loss, Budget(steps=12), tmp_path / "gs.pt", 5e-3)
    first = gaussians.GaussianLoss(networks(), data, RECIPE, scratch)
    before, after = (pd.Series(one(50)[1]) for one in (first, loss))
    assert (after[["distance", "color", "angle", "image"]] < before[["distance", "color", "angle", "image"]]).all()
    loss = slat_flow.FlowLoss(both, data, RECIPE, scratch)
    fit(nn.ModuleDict({"flow": loss.flow}), loss, Budget(steps=12), tmp_path / "flow.pt", 5e-3)
    first = slat_flow.FlowLoss(networks(), data, RECIPE, scratch)
    assert loss(50)[1]["loss, held out"] < first(50)[1]["loss, held out"]


@pytest.fixture(scope="module")
def surface(data):
    return gaussians.Surface(*(data[name][CHAIR] for name in ("cells", "sdf", "part", "palette")))


def test_the_surface_tells_distance_and_color_of_the_analytic_object(data, surface):
    item, rng = furniture("train", CHAIR), np.random.default_rng(0)
    points = data["points"][CHAIR].float() + torch.from_numpy(rng.normal(0, 0.004, (RECIPE.data.points, 3))).float()
    assert np.abs(surface.distances(points).numpy() - item.sdf(points.numpy())).mean() < 1e-3
    assert np.abs(surface.colors(points).numpy() - item.color(points.numpy())).mean() < 0.02
    assert surface.distances(torch.tensor([[0.49, 0.49, 0.49]])).item() == pytest.approx(slat.BAND)


def test_discs_on_the_surface_are_right_and_others_are_not(data, surface):
    splats = surface_splats(outer_surface(furniture("train", CHAIR)), 6000, 0)

    def losses(**changed):
        given = {**vars(splats), **changed}
        given["means"] = given["means"].clone().requires_grad_()
        points = data["points"][CHAIR].float()
        spacing = float(splats.scales[0, 0])
        found = gaussians.surface_losses(type(splats)(**given), surface, points, spacing)
        return {name: loss.item() for name, loss in found.items()}

    right = losses()
    moved = losses(means=splats.means + torch.tensor([0.03, 0, 0]))
    assert right["distance"] < 0.3
    assert right["gap"] < 2
    assert right["angle"] < 0.1
    assert right["color"] < 0.1
    assert moved["distance"] > right["distance"] + 0.3
    assert moved["gap"] > right["gap"]
    turned = splats.rotations.roll(1, 0)
    assert losses(rotations=turned)["angle"] > right["angle"] + 0.1
    assert losses(colors=1 - splats.colors)["color"] > right["color"] + 0.1
    assert losses(scales=3 * splats.scales)["scale"] > right["scale"] + 0.3
    half = splats.means[:, 0] < 0
    hole = losses(**{name: value[half] for name, value in vars(splats).items()})
    assert hole["gap"] > right["gap"] + 1


def test_the_image_to_be_learned_is_that_of_splats_on_the_surface():
    mesh = outer_surface(furniture("train", CHAIR))
    image, mask = gaussians.lit_image(mesh, Camera(40), 64)
    splats = surface_splats(mesh, 20_000, 0)
    assert (render_splats(splats, Camera(40), 64) - image).abs().mean() < 0.03
    assert (render_splats(splats, Camera(50), 64) - image).abs().mean() > 0.04
    assert image[~mask].mean() > 0.95
