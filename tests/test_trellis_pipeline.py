"""From photo to mesh and Gaussians: preparation, conditioning, sampling, loading and files."""

import importlib.util
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import trimesh
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from tiny_folder import write_pipeline

from lib.errors import BadInput
from lib.trellis.conditioning import prepare_photo, remove_background
from lib.trellis.export import write_glb, write_ply
from lib.trellis.lora import add_lora, save_lora
from lib.trellis.pipeline import load_pipeline
from lib.trellis.samplers import sample_flow, time_steps
from lib.trellis.tiny import tiny_conditioner, tiny_pipeline


def photo(color=(200, 90, 40)) -> Image.Image:
    """A disc with alpha."""
    image = Image.new("RGBA", (90, 70), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((20, 10, 60, 50), fill=(*color, 255))
    return image


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline(0)


@pytest.fixture
def folder(tmp_path, pipeline):
    """The tiny pipeline in the published layout."""
    return write_pipeline(pipeline, tmp_path)


def same(a, b) -> bool:
    pairs = [(a.latent.coords, b.latent.coords), (a.latent.feats, b.latent.feats), (a.mesh.vertices, b.mesh.vertices)]
    return all(torch.equal(x, y) for x, y in [*pairs, (a.gaussians.xyz, b.gaussians.xyz)])


def test_sample_depends_on_its_arguments_only(pipeline):
    torch.manual_seed(1)
    first = pipeline.sample(photo(), 7)[0]
    torch.manual_seed(2)
    pipeline.sample(photo((0, 255, 0)), 8, steps=2)
    state = torch.random.get_rng_state()
    assert same(pipeline.sample(photo(), 7)[0], first)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not same(pipeline.sample(photo(), 8)[0], first)
    assert not same(pipeline.sample(photo((0, 255, 0)), 7)[0], first)


def test_samples_that_differ_in_the_second_stage_share_the_structure(pipeline, monkeypatch):
    fresh, known = pipeline.sample(photo(), 7, slat={"steps": 3})[0], {}
    pipeline.sample(photo(), 7, structures=known)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "sample_structure", lambda *_, **__: pytest.fail("it is known"))
        assert same(pipeline.sample(photo(), 7, slat={"steps": 3}, structures=known)[0], fresh)
    for number, of in enumerate([(photo((0, 255, 0)), 7, {}), (photo(), 8, {}), (photo(), 7, {"steps": 3})]):
        assert len(known) == number + 1
        assert same(
            pipeline.sample(*of[:2], structure=of[2], structures=known)[0], pipeline.sample(*of[:2], structure=of[2])[0]
        )


def test_batch_is_every_photo_with_every_seed_and_equals_single_samples(pipeline):
    photos = [photo(), photo((0, 200, 255))]
    batch = pipeline.sample(photos, [3, 4])
    assert [(s.photo, s.seed) for s in batch] == [(0, 3), (0, 4), (1, 3), (1, 4)]
    for sample in batch:
        alone = pipeline.sample(photos[sample.photo], sample.seed)[0]
        assert torch.equal(sample.latent.coords, alone.latent.coords)
        torch.testing.assert_close(sample.latent.feats, alone.latent.feats, atol=1e-4, rtol=1e-4)
        assert sample.mesh.faces.shape == alone.mesh.faces.shape
        torch.testing.assert_close(sample.gaussians.means, alone.gaussians.means, atol=1e-4, rtol=1e-4)


def test_stages_alone_give_the_whole_and_can_be_mixed(pipeline):
    whole = pipeline.sample(photo(), 5)[0]
    cond = pipeline.encode([photo()])
    coords, _ = pipeline.sample_structure(cond, pipeline.structure_noise([5]))
    latents, _ = pipeline.sample_slat(cond, coords, pipeline.slat_noise([5], coords))
    assert torch.equal(latents.feats, whole.latent.feats)
    assert torch.equal(pipeline.decode(latents, "mesh")[0].vertices, whole.mesh.vertices)
    other, _ = pipeline.sample_slat(cond, coords, pipeline.slat_noise([6], coords))
    assert torch.equal(other.coords, whole.latent.coords)
    assert not torch.allclose(other.feats, whole.latent.feats)


def test_settings_of_one_stage_leave_the_other_alone(pipeline):
    plain = pipeline.sample(photo(), 5, formats=())[0]
    latent_only = pipeline.sample(photo(), 5, slat={"steps": 2, "cfg_strength": 0.0}, formats=())[0]
    assert torch.equal(plain.latent.coords, latent_only.latent.coords)
    assert not torch.allclose(plain.latent.feats, latent_only.latent.feats)
    named = pipeline.sample(photo(), 5, structure={"cfg_strength": 5.0}, guidance=3.0, formats=())[0]
    assert torch.equal(named.latent.feats, plain.latent.feats)  # these are the pipeline's own settings
    assert plain.mesh is plain.gaussians is None


def test_trajectory_has_a_state_for_each_step_and_ends_in_the_sample(pipeline):
    sample = pipeline.sample(photo(), [5, 6], steps=3, trajectory=True, formats=())[1]
    assert len(sample.structure_trajectory) == len(sample.slat_trajectory) == 3
    assert sample.structure_trajectory[0].shape == (8, 8, 8, 8)
    torch.testing.assert_close(sample.slat_trajectory[-1] * pipeline.std + pipeline.mean, sample.latent.feats)


def test_bad_requests_are_named_before_any_work(pipeline, monkeypatch):
    monkeypatch.setattr(pipeline, "encode", None)  # any work would fail otherwise
    for options, word in (
        ({"structure": {"step": 3}}, "'step'"),
        ({"adapter": "absent"}, "'absent' is not loaded"),
        ({"formats": ("splat",)}, "'splat'"),
    ):
        with pytest.raises(BadInput, match=word):
            pipeline.sample(photo(), 0, **options)


def test_empty_structure_is_an_error_that_says_so():
    pipeline = tiny_pipeline(0)
    pipeline.models["sparse_structure_decoder"].out_layer[-1].bias -= 100
    with pytest.raises(BadInput, match="sample 0 of the batch is empty: no voxel is occupied"):
        pipeline.sample(photo(), 0)


def test_adapter_acts_where_it_is_loaded_and_nowhere_else(tmp_path):
    pipeline, source = tiny_pipeline(0), tiny_pipeline(0)
    base = pipeline.sample(photo(), 5)[0]
    flow = add_lora(source.models["slat_flow_model"], "x", rank=2, alpha=2)
    for key, parameter in flow.named_parameters():
        if "lora_B" in key:
            parameter.data.fill_(0.3)
    save_lora(flow, tmp_path / "slat_flow_model", "x")
    pipeline.load_adapter("mine", tmp_path)
    assert same(pipeline.sample(photo(), 5)[0], base)
    adapted = pipeline.sample(photo(), 5, adapter="mine")[0]
    assert torch.equal(adapted.latent.coords, base.latent.coords)
    assert not torch.allclose(adapted.latent.feats, base.latent.feats)
    assert same(pipeline.sample(photo(), 5, slat={"adapter": "mine"})[0], adapted)
    with pytest.raises(BadInput, match="slat_flow_model"):
        pipeline.load_adapter("none", tmp_path / "slat_flow_model")


def test_folder_in_the_published_layout_loads_and_samples_the_same(folder, pipeline):
    loaded = load_pipeline(folder)
    assert same(loaded.sample(photo(), 5)[0], pipeline.sample(photo(), 5)[0])
    half = load_pipeline(folder, dtype=torch.bfloat16).sample(photo(), 5, formats=())[0]
    assert half.latent.feats.dtype == torch.float32
    with pytest.raises(BadInput, match="float16"):
        load_pipeline(folder, dtype=torch.float16)  # hundreds of times slower than float32 on a CPU


def test_incomplete_pipelines_are_named(folder):
    path = folder / "pipeline.json"
    full = json.loads(path.read_text())
    for key in ("slat_sampler", "slat_normalization"):
        path.write_text(json.dumps({"args": {k: v for k, v in full["args"].items() if k != key}}))
        with pytest.raises(BadInput, match=f"'{key}' is missing"):
            load_pipeline(folder)
    models = {k: v for k, v in full["args"]["models"].items() if k != "slat_flow_model"}
    path.write_text(json.dumps({"args": full["args"] | {"models": models}}))
    with pytest.raises(BadInput, match="'slat_flow_model' is missing"):
        load_pipeline(folder)
    path.unlink()
    with pytest.raises(BadInput, match=r"pipeline\.json: the file is missing"):
        load_pipeline(folder)
    with pytest.raises(BadInput, match="no local folder"):
        load_pipeline(folder / "nowhere" / "at" / "all")


def test_missing_conditioner_is_named_when_a_photo_comes(folder):
    path = folder / "ckpts/dinov2/model.safetensors"
    weights = load_file(path)
    del weights["embeddings.cls_token"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"missing, embeddings\.cls_token for one"):
        load_pipeline(folder).sample(photo(), 0)
    path.unlink()
    with pytest.raises(BadInput, match="no image conditioner"):
        load_pipeline(folder).sample(photo(), 0)


def test_preparation_crops_with_a_margin_on_black():
    prepared = np.asarray(prepare_photo(photo(), 120)).astype(int)
    assert prepared.shape == (120, 120, 3)
    rows, columns = np.nonzero(prepared.max(2) > 100)
    for side in (rows, columns):
        assert side.max() - side.min() == pytest.approx(120 / 1.2, abs=4)
        assert (side.max() + side.min()) / 2 == pytest.approx(59.5, abs=2)
    assert (prepared[0] == 0).all()
    assert np.abs(prepared[60, 60] - (200, 90, 40)).max() <= 1


def test_plain_background_is_removed_without_rembg():
    on_white = Image.new("RGB", (90, 70), (250, 252, 251))
    on_white.paste(photo(), mask=photo())
    ImageDraw.Draw(on_white).rectangle((35, 25, 45, 35), fill=(250, 252, 251))  # a white spot inside the disc
    alpha = np.asarray(remove_background(on_white))[..., 3]
    assert alpha[0, 0] == 0
    assert alpha[30, 25] == 255
    assert alpha[30, 40] == 255
    whole, cut = (np.asarray(prepare_photo(image, 64)).astype(int) for image in (photo(), on_white))
    assert np.abs(whole - cut)[8:20].mean() < 4


@pytest.mark.skipif(importlib.util.find_spec("rembg") is not None, reason="rembg is installed")
def test_busy_background_asks_for_rembg():
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    with pytest.raises(BadInput, match="rembg"):
        prepare_photo(Image.fromarray(noise))


def test_photo_without_an_object_is_refused():
    for empty in (Image.new("RGBA", (64, 64), (9, 9, 9, 0)), Image.new("L", (64, 64), 255)):
        with pytest.raises(BadInput, match="no opaque object"):
            prepare_photo(empty)


def test_condition_is_the_normalised_tokens_before_the_final_norm():
    conditioner = tiny_conditioner()
    pixels = conditioner.pixels([photo().convert("RGB")])
    with torch.no_grad():
        cond = conditioner(pixels)
        conditioner.model.layernorm.weight.fill_(7.0)
        after_norm = conditioner.model(pixels).last_hidden_state
    assert cond.shape == (1, 1 + 4 + 16, 32)
    torch.testing.assert_close(cond.mean(-1), torch.zeros(1, 21), atol=1e-5, rtol=0)
    assert after_norm.std() == pytest.approx(7, abs=0.1)  # the final norm, which the condition leaves out
    again = F.layer_norm(after_norm, (32,))
    torch.testing.assert_close(again, F.layer_norm(cond, (32,)), atol=1e-3, rtol=0)


def test_straight_flow_reaches_the_data_in_any_number_of_steps():
    data, noise, cond = torch.randn(2, 3), torch.randn(2, 3), torch.zeros(2, 1, 1)
    for steps in (1, 4):
        result = sample_flow(lambda x, t, c: noise - data, noise, cond, steps=steps, rescale_t=3.0, keep=True)
        torch.testing.assert_close(result.sample, data)
        torch.testing.assert_close(result.x_0[0], data, atol=1e-4, rtol=1e-4)
    times = time_steps(4, 3.0)
    assert times[0] == 1
    assert times[-1] == 0
    assert times[2] == 3 * 0.5 / (1 + 2 * 0.5)


def test_guidance_acts_inside_its_interval_only():
    calls = []

    def velocity(x, t, cond):
        assert len(x) == len(t) == len(cond)
        calls.append((round(t[0].item()), *cond[:, 0, 0].tolist()))
        return cond[:, 0]

    cond, noise = torch.ones(1, 1, 1), torch.zeros(1, 1)
    result = sample_flow(velocity, noise, cond, 0 * cond, 4, cfg_strength=2.0, cfg_interval=(0.5, 0.75))
    assert calls == [(1000, 1), (750, 1, 0), (500, 1, 0), (250, 1)]
    torch.testing.assert_close(result.sample, torch.tensor([[-0.25 * (1 + 3 + 3 + 1)]]))


def test_glb_has_y_up_and_the_colors(tmp_path, pipeline):
    mesh = pipeline.sample(photo(), 5, formats=("mesh",))[0].mesh
    write_glb(mesh, tmp_path / "a.glb")
    read = trimesh.load(tmp_path / "a.glb", force="mesh", process=False)
    x, y, z = mesh.vertices.T.numpy()
    np.testing.assert_allclose(read.vertices, np.stack([x, z, -y], axis=1), atol=1e-6)
    assert (read.faces == mesh.faces.numpy()).all()
    wanted = (mesh.attributes[:, :3].numpy() * 255).round()
    assert np.abs(read.visual.vertex_colors[:, :3] - wanted).max() <= 1


def test_ply_has_the_splatting_columns(tmp_path, pipeline):
    gaussians = pipeline.sample(photo(), 5, formats=("gaussians",))[0].gaussians
    write_ply(gaussians, tmp_path / "a.ply")
    table = trimesh.load(tmp_path / "a.ply").metadata["_ply_raw"]["vertex"]["data"]

    def column(*names):
        return torch.tensor(np.stack([np.asarray(table[name]).reshape(-1) for name in names], axis=1))

    x, y, z = gaussians.means.T
    torch.testing.assert_close(column("x", "y", "z"), torch.stack([x, -z, y], dim=1))
    torch.testing.assert_close(column("scale_0", "scale_1", "scale_2").exp(), gaussians.scales)
    torch.testing.assert_close(column("opacity").sigmoid()[:, 0], gaussians.opacities)
    torch.testing.assert_close(column("f_dc_0", "f_dc_1", "f_dc_2"), gaussians.features_dc[:, 0])
    turn = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    turned = matrices(column("rot_0", "rot_1", "rot_2", "rot_3"))
    torch.testing.assert_close(turned, turn @ matrices(gaussians.rotations), atol=1e-5, rtol=0)


def matrices(quaternions: torch.Tensor) -> torch.Tensor:
    rotations = trimesh.transformations.quaternion_matrix
    return torch.tensor(np.stack([rotations(q)[:3, :3] for q in quaternions.numpy()])).float()
