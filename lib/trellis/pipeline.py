"""A photo to meshes and Gaussians: condition, structure (stage 1), structured latents (stage 2), decoders (Sec. 3.3).

Every stage can be called alone, so that a study can change one and keep the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from lib.errors import BadInput
from lib.trellis.checkpoints import find_file, load_model, read_json
from lib.trellis.conditioning import ImageConditioner, load_conditioner, prepare_photo
from lib.trellis.gaussian_decoder import Gaussians
from lib.trellis.layers import require
from lib.trellis.lora import adapter_names, load_lora, use_adapter
from lib.trellis.mesh_extraction import Mesh
from lib.trellis.samplers import Trajectory, sample_flow
from lib.trellis.sparse import SparseTensor, collate

FLOWS = "sparse_structure_flow_model", "slat_flow_model"
REQUIRED = (*FLOWS, "sparse_structure_decoder")
DECODERS = {"mesh": "slat_decoder_mesh", "gaussians": "slat_decoder_gs"}
SETTINGS = ("steps", "cfg_strength", "cfg_interval", "rescale_t", "sigma_min")
SAMPLERS = ("FlowEulerSampler", "FlowEulerCfgSampler", "FlowEulerGuidanceIntervalSampler")


@dataclass(frozen=True)
class Sample:
    """What became of one photo and one seed; a format that was not asked for is None."""

    photo: int  # index of the photo
    seed: int
    latent: SparseTensor  # coords [T, 4] with batch index 0, feats [T, 8], not normalised
    mesh: Mesh | None
    gaussians: Gaussians | None
    structure_trajectory: list[Tensor] | None  # after each step [8, R, R, R]
    slat_trajectory: list[Tensor] | None  # after each step [T, 8], normalised


class Pipeline:
    """The networks by their published roles, and the published sampler settings, on one device."""

    def __init__(self, models: dict[str, nn.Module], args: dict, conditioner: ImageConditioner | str, device="cpu"):
        """args: those of pipeline.json; conditioner: the network, or where to load it from once it is needed."""
        self.models, self.device, self._conditioner = models, torch.device(device), conditioner
        self.settings = {}
        for stage, key in (("structure", "sparse_structure_sampler"), ("slat", "slat_sampler")):
            require(key, args[key]["name"], SAMPLERS)
            self.settings[stage] = args[key]["args"] | args[key]["params"]
        statistics = args["slat_normalization"]
        self.mean, self.std = (torch.tensor(statistics[key], device=self.device) for key in ("mean", "std"))

    @cached_property
    def conditioner(self) -> ImageConditioner:
        """The image conditioner, loaded when it is first needed."""
        given = self._conditioner
        return (load_conditioner(given) if isinstance(given, str) else given).to(self.device)

    def sample(
        self,
        photos: Image.Image | Sequence[Image.Image],
        seeds: int | Sequence[int],
        steps: int | None = None,
        guidance: float | None = None,
        structure: dict | None = None,
        slat: dict | None = None,
        adapter: str | None = None,
        trajectory: bool = False,
        formats: Sequence[str] = ("mesh", "gaussians"),
        fill_interior: bool = False,
        structures: dict | None = None,
    ) -> list[Sample]:
        """Every photo with every seed, photo after photo, in one batch; depends on nothing but the arguments.

        steps, guidance: for both stages, instead of the pipeline's own settings.
        structure, slat: settings of one stage (steps, cfg_strength, cfg_interval, rescale_t, sigma_min, adapter), which
            come before those for both.
        adapter: name of a loaded adapter, used in every stage whose flow has it.
        fill_interior: see `extract_mesh`.
        structures: those of earlier calls, by all that they depend on; what is missing is sampled and added. So samples
            that differ in the second stage alone share the first.
        Raises BadInput for an unknown setting, a photo without an object, and a structure without a voxel.
        """
        photos = [photos] if isinstance(photos, Image.Image) else photos
        seeds = [seeds] if isinstance(seeds, int) else list(seeds)
        both = {"steps": steps, "cfg_strength": guidance, "adapter": adapter}
        both = {key: value for key, value in both.items() if value is not None}
        stages = [both | (own or {}) for own in (structure, slat)]
        for stage, options in zip(self.settings, stages, strict=True):
            self._check(stage, options)
        for name in formats:
            self._decoder(name)
        cond = self.encode(photos).repeat_interleave(len(seeds), dim=0)
        each_seed = seeds * len(photos)
        structures = {} if structures is None else structures
        key = cond.float().cpu().numpy().tobytes(), *each_seed, trajectory, repr(self._resolved("structure", stages[0]))
        if key not in structures:
            noise = self.structure_noise(each_seed)
            structures[key] = self.sample_structure(cond, noise, keep=trajectory, **stages[0])
        coords, first = structures[key]
        noise = self.slat_noise(each_seed, coords)
        latents, second = self.sample_slat(cond, coords, noise, keep=trajectory, **stages[1])
        decoded = {name: self.decode(latents, name, fill_interior) for name in formats}
        parts, samples = latents.slices(), []
        for i, latent in enumerate(latents.items()):
            outputs = [decoded[name][i] if name in decoded else None for name in DECODERS]
            paths = [[x[i] for x in first.x_t], [x[parts[i]] for x in second.x_t]] if trajectory else [None, None]
            samples.append(Sample(i // len(seeds), each_seed[i], latent, *outputs, *paths))
        return samples

    @torch.no_grad()
    def encode(self, photos: Sequence[Image.Image]) -> Tensor:
        """Condition [B, L, C] of photos, prepared by `prepare_photo`."""
        prepared = [prepare_photo(photo, self.conditioner.image_size) for photo in photos]
        return self.conditioner(self.conditioner.pixels(prepared))

    def structure_noise(self, seeds: Sequence[int]) -> Tensor:
        """Stage 1's noise [B, 8, R, R, R], one seed an item; drawn on the CPU, so the same on every device."""
        return torch.cat([self._draw(seed)[0] for seed in seeds]).to(self.device)

    def slat_noise(self, seeds: Sequence[int], coords: Tensor) -> Tensor:
        """Stage 2's noise [T, 8] for the voxels [T, 4] of B items; it continues the draws of `structure_noise`."""
        channels = self.models[FLOWS[1]].in_channels
        counts = torch.bincount(coords[:, 0].long(), minlength=len(seeds)).tolist()
        noise = [torch.randn(n, channels, generator=self._draw(seed)[1]) for seed, n in zip(seeds, counts, strict=True)]
        return torch.cat(noise).to(self.device)

    def _draw(self, seed: int) -> tuple[Tensor, torch.Generator]:
        generator = torch.Generator().manual_seed(seed)
        flow = self.models[FLOWS[0]]
        return torch.randn(1, flow.in_channels, *[flow.resolution] * 3, generator=generator), generator

    @torch.no_grad()
    def sample_structure(self, cond: Tensor, noise: Tensor, keep: bool = False, **options) -> tuple[Tensor, Trajectory]:
        """Stage 1: condition [B or 1, L, C] and noise [B, 8, R, R, R] to voxels int32 [T, 4] and the latents' run.

        Raises BadInput for an item without a voxel.
        """
        flow, decoder = self.models[FLOWS[0]], self.models["sparse_structure_decoder"]
        result = self._run("structure", flow, flow, noise, cond.expand(len(noise), -1, -1), keep, options)
        coords = (decoder(result.sample)[:, 0] > 0).nonzero().int()
        empty = torch.bincount(coords[:, 0].long(), minlength=len(noise)) == 0
        if empty.any():
            problem = f"the structure of sample {int(empty.nonzero()[0])} of the batch is empty: no voxel is occupied"
            raise BadInput("sample", problem, "Use another seed, photo, number of steps or guidance.")
        return coords, result

    @torch.no_grad()
    def sample_slat(
        self, cond: Tensor, coords: Tensor, noise: Tensor, keep: bool = False, **options
    ) -> tuple[SparseTensor, Trajectory]:
        """Stage 2: condition [B or 1, L, C], voxels [T, 4] of B items and noise [T, 8] to structured latents [T, 8]."""
        voxels, flow = SparseTensor(noise, coords), self.models[FLOWS[1]]
        twice = collate(voxels.items() * 2)  # what guidance asks about

        def velocity(feats: Tensor, t: Tensor, cond: Tensor) -> Tensor:
            x = voxels if len(t) == voxels.batch_size else twice
            return flow(x.with_feats(feats), t, cond).feats

        cond = cond.expand(voxels.batch_size, -1, -1)
        result = self._run("slat", flow, velocity, noise, cond, keep, options)
        return voxels.with_feats(result.sample * self.std + self.mean), result

    @torch.no_grad()
    def decode(self, latents: SparseTensor, name: str, fill_interior: bool = False) -> list[Mesh] | list[Gaussians]:
        """Decode latents [T, 8] to "mesh" or "gaussians", one an item."""
        decoder = self._decoder(name)
        return decoder(latents, fill_interior=fill_interior) if name == "mesh" else decoder(latents)

    def load_adapter(self, name: str, folder: str | Path) -> None:
        """Load an adapter: a folder with a subfolder (see `save_lora`) for each flow that it changes, named by role."""
        roles = [role for role in FLOWS if Path(folder, role).is_dir()]
        if not roles:
            raise BadInput(folder, f"no subfolder {' or '.join(FLOWS)}", "Save each flow's adapter under its role.")
        for role in roles:
            load_lora(self.models[role], Path(folder, role), name)

    def _decoder(self, name: str) -> nn.Module:
        require("formats", name, tuple(key for key, role in DECODERS.items() if role in self.models))
        return self.models[DECODERS[name]]

    def _check(self, stage: str, options: dict) -> None:
        unknown = sorted(set(options) - {*SETTINGS, "adapter"})
        if unknown:
            raise BadInput(stage, f"unknown setting {unknown[0]!r}", f"Settings are {', '.join(SETTINGS)}, adapter.")
        known = set().union(*(adapter_names(self.models[role]) for role in FLOWS))
        if options.get("adapter") is not None and options["adapter"] not in known:
            raise BadInput("adapter", f"{options['adapter']!r} is not loaded", f"Loaded are {sorted(known)}.")

    def _run(self, stage: str, flow: nn.Module, velocity, noise: Tensor, cond: Tensor, keep: bool, options: dict):
        self._check(stage, options)
        settings = self._resolved(stage, options)
        with use_adapter(flow, settings.pop("adapter")):
            return sample_flow(velocity, noise, cond, torch.zeros_like(cond), keep=keep, **settings)

    def _resolved(self, stage: str, options: dict) -> dict:
        """All settings of a stage; adapter: None where its flow does not have it."""
        settings, flow = self.settings[stage] | options, dict(zip(self.settings, FLOWS, strict=True))[stage]
        adapter = settings.get("adapter")
        return settings | {"adapter": adapter if adapter in adapter_names(self.models[flow]) else None}


def load_pipeline(source: str | Path, device="cpu", dtype: torch.dtype | None = None) -> Pipeline:
    """Pipeline of a local folder or a Hugging Face id in the published layout (pipeline.json, ckpts/).

    dtype: type of the large layers, float32 (default) or bfloat16 on a CPU, float16 (default) or bfloat16 on a GPU.
    Raises BadInput naming the file that is missing or wrong, before anything large is loaded.
    """
    cpu = torch.device(device).type == "cpu"
    allowed = (torch.float32, torch.bfloat16) if cpu else (torch.float16, torch.bfloat16)
    dtype = dtype or allowed[0]
    require("dtype", dtype, allowed)
    path = find_file(source, "pipeline.json")
    args = read_json(path).get("args", {})
    needed = "models", "sparse_structure_sampler", "slat_sampler", "slat_normalization", "image_cond_model"
    absent = [key for key in needed if key not in args]
    absent += [role for role in REQUIRED if role not in args.get("models", {})]
    if absent:
        raise BadInput(path, f"{absent[0]!r} is missing in it", "Give the pipeline.json of an image-to-3D pipeline.")
    stems = {role: stem for role, stem in args["models"].items() if role in (*REQUIRED, *DECODERS.values())}
    models = {role: load_model(source, stem, dtype, device) for role, stem in stems.items()}
    local = Path(source, args["image_cond_model"])
    return Pipeline(models, args, str(local) if local.is_dir() else args["image_cond_model"], device)
