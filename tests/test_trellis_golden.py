"""Every module against recorded values of the reference (folder `TRELLIS_GOLDEN`, default ../shared/golden/trellis).

Cases, configurations, shapes and tolerances come from the folder alone; another folder of the same layout works too.
"""

import json
import math
import os
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from lib.trellis.attention import attend
from lib.trellis.checkpoints import build_model
from lib.trellis.conditioning import ImageConditioner, prepare_photo
from lib.trellis.flexicubes import case_ids, corner_steps, flexicubes, resolve_ambiguity
from lib.trellis.layers import HeadRMSNorm, TimestepEmbedder, grid_coords, position_embedding, timestep_features
from lib.trellis.losses import (
    diffuse,
    drop_condition,
    flow_matching_loss,
    kl_divergence,
    posterior_sample,
    predict_velocity,
    reconstruction_loss,
    structure_vae_loss,
    velocity_target,
)
from lib.trellis.mesh_decoder import SparseGroupNorm
from lib.trellis.mesh_extraction import extract_mesh
from lib.trellis.pipeline import load_pipeline
from lib.trellis.samplers import sample_flow, time_steps
from lib.trellis.sparse import (
    SparseTensor,
    batch_groups,
    downsample,
    neighbors,
    subdivide,
    upsample,
    window_groups,
)
from lib.trellis.sparse_conv import SparseConv3d

FOLDER = Path(os.environ.get("TRELLIS_GOLDEN", Path(__file__).parents[2] / "shared/golden/trellis"))
CASES = sorted(p.relative_to(FOLDER).with_suffix("").as_posix() for p in FOLDER.glob("**/*.safetensors"))
CASES = [name for name in CASES if (FOLDER / f"{name}.json").is_file() and "ckpts/" not in name]
KEYS = FOLDER / "published_keys.json"
needs_folder = pytest.mark.skipif(not CASES, reason=f"no golden vectors in {FOLDER} (set TRELLIS_GOLDEN)")


class Case:
    """One recorded case: its description, and its tensors by role."""

    def __init__(self, name: str):
        self.name = name
        self.about = json.loads((FOLDER / f"{name}.json").read_text())
        self.config, self.extra = self.about["config"], self.about.get("extra", {})
        self.tensors = load_file(FOLDER / f"{name}.safetensors")
        self.inputs, self.out, self.weights = self.part("in/"), self.part("out/"), self.part("sd/")

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}

    def sparse(self, name: str) -> SparseTensor:
        return SparseTensor(self.inputs[f"{name}.feats"], self.inputs[f"{name}.coords"])

    def model(self, config: dict | None = None, prefix: str = "sd/", name: str | None = None) -> torch.nn.Module:
        model = build_model(name or self.about["cls"], config or self.config)
        model.load_state_dict(self.part(prefix))
        return model


def sparse_out(name: str, x: SparseTensor) -> dict:
    return {f"{name}.feats": x.feats, f"{name}.coords": x.coords}


def embeddings(case):
    embedder = TimestepEmbedder(*case.weights["mlp.0.weight"].shape)
    embedder.load_state_dict(case.weights)
    n, t = case.config["t_dim"], case.inputs["t"]
    found = {f"timestep_{n}": timestep_features(t, n), "t_embedder": embedder(t)}
    return found | {f"ape_{c}": position_embedding(case.inputs["coords"], c) for c in case.config["ape_channels"]}


def structure_flow(case):
    return {"v": case.model()(*(case.inputs[key] for key in ("x", "t", "cond")))}


def structure_encoder(case):
    encoder, x = case.model(), case.inputs["x"].float()
    mean, logvar = encoder.posterior(x)
    return {"z": encoder(x), "mean": mean, "logvar": logvar}


def structure_decoder(case):
    return {"logits": case.model()(case.inputs["z"])}


def structure_vae(case):
    occupancy, found = case.inputs["ss"].float(), {}
    for kind in ("dice", "bce", "l1"):
        encoder = case.model(case.config["encoder"], "sd/encoder/", "SparseStructureEncoder")
        decoder = case.model(case.config["decoder"], "sd/decoder/", "SparseStructureDecoder")
        mean, logvar = encoder.posterior(occupancy)
        logits = decoder(posterior_sample(mean, logvar, case.inputs["eps"]))
        loss = structure_vae_loss(logits, occupancy, mean, logvar, kind, case.config["lambda_kl"])
        found |= {f"{kind}.loss": loss, f"{kind}.rec": reconstruction_loss(logits, occupancy, kind)}
        found["kl"] = kl_divergence(mean, logvar)
        loss.backward()
        for part, model in (("encoder", encoder), ("decoder", decoder)):
            found |= {f"{kind}.grad.{part}.{key}": p.grad for key, p in model.named_parameters()}
    return found


def sparse_operators(case):
    x, config = case.sparse("x"), case.config
    feats, i = x.feats, case.inputs
    conv = {}
    for name, size in (("conv1", 1), ("conv3", 3)):
        out, *_, width = case.weights[f"{name}/conv.weight"].shape
        conv[name] = SparseConv3d(width, out, size)
        conv[name].load_state_dict(case.part(f"sd/{name}/"))
    norm = SparseGroupNorm(config["group_norm"]["num_groups"], feats.shape[1], eps=config["group_norm"]["eps"])
    norm.load_state_dict(case.part("sd/groupnorm/"))
    head_norm = HeadRMSNorm(config["heads"], config["head_dim"])
    head_norm.load_state_dict(case.part("sd/qk_rms_norm/"))
    q, k, v = i["qkv"].unbind(1)
    windows = [window_groups(x, config["window_size"], shift) for shift in (0, config["shift_window"])]
    coarse, index = downsample(x)
    return {
        **sparse_out("downsample", coarse),
        **sparse_out("upsample", upsample(coarse, x, index)),
        **sparse_out("subdivide", subdivide(x)),
        **sparse_out("conv3", x.with_feats(conv["conv3"](feats, neighbors(x)))),
        **sparse_out("conv1", x.with_feats(conv["conv1"](feats))),
        "window_attn_shift0": windows[0].attend(q, k, v),
        "window_attn_shifted": windows[1].attend(q, k, v),
        "full_attn": batch_groups(x).attend(q, k, v),
        "cross_attn": batch_groups(x).attend(i["q"], *i["kv"].unbind(2)),
        "groupnorm": norm(x).feats,
        "qk_rms_norm": head_norm(i["q"]),
        "batch_scale": feats * (1 + batch_groups(x).spread(i["mod"])),
    }


def latent_flow(case):
    return sparse_out("v", case.model()(case.sparse("x"), case.inputs["t"], case.inputs["cond"]))


def latent_encoder(case):
    encoder, x = case.model(), case.sparse("x")
    mean, logvar = encoder.posterior(x)
    return {**sparse_out("z", encoder(x)), "mean": mean, "logvar": logvar}


def gaussian_fields(gaussians, prefix: str) -> dict:
    raw = ("xyz", "features_dc", "scaling", "rotation", "opacity")
    return {f"{prefix}._{name}": getattr(gaussians, name) for name in raw} | {
        f"{prefix}.get_xyz": gaussians.means,
        f"{prefix}.get_scaling": gaussians.scales,
        f"{prefix}.get_rotation": gaussians.rotations,
        f"{prefix}.get_opacity": gaussians.opacities[:, None],
        f"{prefix}.get_features": gaussians.features_dc,
    }


def mesh_fields(mesh, prefix: str) -> dict:
    names = {"vertices": mesh.vertices, "faces": mesh.faces, "vertex_attrs": mesh.attributes}
    return {f"{prefix}.{name}": value for name, value in names.items()}


def gaussian_decoder(case):
    found = {}
    for i, gaussians in enumerate(case.model()(case.sparse("x"))):
        found |= gaussian_fields(gaussians, str(i))
    return found


def mesh_decoder(case):
    decoder, x = case.model(), case.sparse("x")
    found = sparse_out("raw", decoder.cells(x))
    for i, mesh in enumerate(decoder(x)):
        found |= mesh_fields(mesh, str(i))
    return found


def mesh_extraction(case):
    feats = case.inputs["feats"].requires_grad_()
    cells, resolution = case.inputs["coords"][:, 1:], case.config["res"]
    train = extract_mesh(cells, feats, resolution, training=True)
    v = train.vertices
    scalar = (v**3).sum() + (v.prod(1) * train.attributes.sum(1)).sum() + train.regularizer
    return {
        **mesh_fields(extract_mesh(cells, feats, resolution), "infer"),
        **mesh_fields(train, "train"),
        "train.reg_loss": train.regularizer,
        "train.scalar": scalar,
        "train.grad_feats": torch.autograd.grad(scalar, feats)[0],
        "train.tsdf_v_sum": train.corner_positions.double().sum(0),
        "train.tsdf_s_sum": train.corner_sdf.double().sum(),
        "train.tsdf_count": torch.tensor(len(train.corner_sdf)),
    }


def grid(resolution: int):
    """Cubes, their corners and the corners' coordinates of a full grid."""
    cubes, vertices = grid_coords(resolution), grid_coords(resolution + 1)
    linear = torch.tensor([(resolution + 1) ** 2, resolution + 1, 1])
    return cubes, ((cubes[:, None] + corner_steps()) * linear).sum(-1), vertices


def flexicubes_case(case):
    i, n = case.inputs, case.config["resolution"]
    cubes, corners, _ = grid(n)
    cases = case_ids(corners, i["sdf"])
    surface = (cases > 0) & (cases < 255)
    weights = i["beta"], i["alpha"], i["gamma"]
    found = {
        "case_ids_raw": cases,
        "surface_cubes": surface,
        "case_ids_resolved": resolve_ambiguity(cubes[surface], cases[surface], n),
    }
    for name, training in (("infer", False), ("train", True)):
        mesh = flexicubes(cubes, corners, i["vertices"], i["sdf"], n, i["colors"].sigmoid(), weights, training)
        found |= {f"{name}.vertices": mesh.vertices, f"{name}.faces": mesh.faces, f"{name}.colors": mesh.attributes}
        found[f"{name}.L_dev"] = mesh.deviation
    plain = flexicubes(cubes, corners, i["vertices"], i["sdf"], n)
    n = case.config["sphere_resolution"]
    cubes, corners, vertices = grid(n)
    positions = vertices / n - 0.5
    sdf = (positions - torch.tensor(case.config["sphere_centre"])).norm(dim=1) - case.config["sphere_radius"]
    sphere = flexicubes(cubes, corners, positions, sdf, n)
    for name, mesh in (("noweights", plain), ("sphere", sphere)):
        found |= {f"{name}.vertices": mesh.vertices, f"{name}.faces": mesh.faces}
    return found


def samplers(case):
    i, found = case.inputs, {}
    for run, settings in case.extra.items():
        sparse = run.endswith("sparse")
        noise = i["xs.feats"] if sparse else i["x"]
        batch = i["xs.coords"][:, 0].long() if sparse else torch.arange(len(noise))
        times = []

        def velocity(x, t, cond, batch=batch, times=times):
            n = int(batch.max()) + 1
            times += t[::n]  # one or, with guidance, two questions a call
            batch = torch.cat([batch + part * n for part in range(len(t) // n)])
            mixed = torch.tanh(torch.einsum("oc,bc...->bo...", i["W"], x))
            extra = (cond.mean(1) @ i["U"] + 0.3 * torch.sin(math.pi * t / 1000)[:, None])[batch]
            return mixed + extra.view(*extra.shape, *[1] * (x.ndim - 2))

        cond = i[settings["cond"].split()[0]].expand(int(batch.max()) + 1, -1, -1)
        negative = torch.zeros_like(cond) if settings["neg_cond"] else None
        options = {k: v for k, v in settings.items() if k in ("steps", "rescale_t", "cfg_strength", "cfg_interval")}
        result = sample_flow(velocity, noise, cond, negative, **options, sigma_min=case.config["sigma_min"], keep=True)
        found |= {
            f"{run}.x_t": torch.stack(result.x_t),
            f"{run}.x_0": torch.stack(result.x_0),
            f"{run}.samples": result.sample,
            f"{run}.t_seq": time_steps(settings["steps"], settings["rescale_t"]),
            f"{run}.model_t": torch.stack(times),
        }
    return found


def flow_loss(case):
    flow = case.model(case.config["model"], name=case.about["cls"].split()[-1])
    i, sigma = case.inputs, case.config["sigma_min"]
    sparse = "x_0.feats" in i
    x_0 = case.sparse("x_0") if sparse else i["x_0"]
    cond = drop_condition(i["cond"], i["drop"])
    fields = {
        "x_t": diffuse(x_0, i["noise"], i["t"], sigma),
        "pred": predict_velocity(flow, x_0, i["noise"], i["t"], cond, sigma),
    }
    found = {"target": velocity_target(x_0, i["noise"], sigma), "cond_used": cond}
    for name, value in fields.items():
        found |= sparse_out(name, x_0.with_feats(value)) if sparse else {name: value}
    found["loss"] = flow_matching_loss(flow, x_0, i["noise"], i["t"], cond, sigma)
    found["loss"].backward()
    tolerance = case.about["tolerance"]
    for key, parameter in flow.named_parameters():
        found[f"grad/{key}"] = parameter.grad
        assert parameter.grad.norm().item() == pytest.approx(
            case.extra["grad_norms"][key], abs=tolerance["atol"], rel=tolerance["rtol"]
        )
    return found


def image_preparation(case):
    photo = Image.fromarray(case.inputs["rgba"].numpy())
    found = torch.from_numpy(np.array(prepare_photo(photo, case.config["size"]))).int()
    if PIL.__version__ not in case.about["notes"] and (found - case.out["rgb"].int()).abs().max() <= 1:
        found = case.out["rgb"]  # other versions of Pillow round differently
    return {"rgb": found}


def image_condition(case):
    config = case.config
    model = Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(
            hidden_size=config["embed_dim"],
            num_hidden_layers=config["depth"],
            num_attention_heads=config["num_heads"],
            **{key: config[key] for key in ("image_size", "patch_size", "mlp_ratio", "num_register_tokens")},
            layer_norm_eps=config["layer_norm_eps"],
        )
    )
    model.load_state_dict(case.part("sd_hf/"))
    conditioner = ImageConditioner(model.eval())
    image = Image.fromarray(case.inputs["image"].numpy())
    return {"cond": conditioner(conditioner.pixels([image]))}


def whole_pipeline(case):
    pipeline, i = load_pipeline((FOLDER / case.name).parent), case.inputs
    if case.config["num_samples"] == 1:  # the reference draws all samples of a batch from one seed, we one from each
        seeds = [case.config["seed"]]
        assert torch.equal(pipeline.structure_noise(seeds), i["noise_ss"])
        assert torch.equal(pipeline.slat_noise(seeds, case.out["coords"]), i["noise_slat"])
    coords, structure = pipeline.sample_structure(i["cond"], i["noise_ss"])
    latents, _ = pipeline.sample_slat(i["cond"], coords, i["noise_slat"])
    logits = pipeline.models["sparse_structure_decoder"](structure.sample)
    found = {"coords": coords, "z_s": structure.sample, "ss_logits": logits, **sparse_out("slat", latents)}
    for n, (mesh, gaussians) in enumerate(
        zip(pipeline.decode(latents, "mesh"), pipeline.decode(latents, "gaussians"), strict=True)
    ):
        found |= mesh_fields(mesh, f"mesh.{n}") | gaussian_fields(gaussians, f"gaussian.{n}")
    return found


CHECKS = {
    "AbsolutePositionEmbedder/TimestepEmbedder": embeddings,
    "SparseStructureFlowModel": structure_flow,
    "SparseStructureEncoder": structure_encoder,
    "SparseStructureDecoder": structure_decoder,
    "SparseStructure VAE loss": structure_vae,
    "sparse operators": sparse_operators,
    "SLatFlowModel": latent_flow,
    "SLatEncoder": latent_encoder,
    "SLatGaussianDecoder": gaussian_decoder,
    "SLatMeshDecoder": mesh_decoder,
    "SparseFeatures2Mesh": mesh_extraction,
    "FlexiCubes": flexicubes_case,
    "flow Euler samplers": samplers,
    "flow matching loss on SparseStructureFlowModel": flow_loss,
    "flow matching loss on SLatFlowModel": flow_loss,
    "image preprocessing (RGBA path)": image_preparation,
    "image conditioning (DINOv2 with registers)": image_condition,
    "tiny end-to-end pipeline": whole_pipeline,
}


@needs_folder
@pytest.mark.parametrize("name", CASES or ["none"])
def test_recorded_case_is_reproduced(name):
    case = Case(name)
    found = CHECKS[case.about["cls"]](case)
    assert case.out.keys() <= found.keys()
    for key, wanted in case.out.items():
        value = found[key].detach()
        if key.endswith("L_dev"):  # recorded in an order of its own
            value, wanted = value.sort().values, wanted.sort().values
        tolerance = case.about["tolerance"] if wanted.is_floating_point() else {"atol": 0, "rtol": 0}
        torch.testing.assert_close(value.to(wanted.dtype), wanted, **tolerance, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.skipif(not KEYS.is_file(), reason=f"no {KEYS}")
def test_networks_have_the_published_keys_shapes_and_types():
    published = json.loads(KEYS.read_text())
    assert published
    for stem, network in published.items():
        with torch.device("meta"):
            model = build_model(network["cls"], network["args"])
        found = {key: [list(t.shape), str(t.dtype).removeprefix("torch.")] for key, t in model.state_dict().items()}
        assert found == network["keys"], stem


def test_attention_is_a_softmax_over_keys():
    q, k, v = torch.randn(3, 2, 5, 4, 8, generator=torch.Generator().manual_seed(0))
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / math.sqrt(8)
    wanted = torch.einsum("bhnm,bmhd->bnhd", F.softmax(scores, -1), v)
    torch.testing.assert_close(attend(q, k, v), wanted)
    torch.testing.assert_close(attend(q.requires_grad_(), k, v), wanted)
