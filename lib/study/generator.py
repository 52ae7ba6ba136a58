"""Notebook 01's look inside the generator: what each stage takes and gives."""

import pandas as pd
from PIL import Image

from lib.trellis.tiny import tiny_pipeline


def stages(photo: Image.Image, seed: int) -> pd.DataFrame:
    """Every stage from the photo to mesh and Gaussians with its tensors' shapes, on a tiny pipeline of random weights.

    Columns: stage, tensor, shape. The modules and their order are the release's; the object means nothing.
    """
    pipeline = tiny_pipeline(seed)
    condition = pipeline.encode([photo])
    structure_noise = pipeline.structure_noise([seed])
    voxels, structure = pipeline.sample_structure(condition, structure_noise)
    latent_noise = pipeline.slat_noise([seed], voxels)
    latents, _ = pipeline.sample_slat(condition, voxels, latent_noise)
    (mesh,), (gaussians,) = pipeline.decode(latents, "mesh"), pipeline.decode(latents, "gaussians")
    rows = [
        ("condition", "DINOv2 tokens of the photo (photo, token, channel)", condition),
        ("stage 1: structure", "noise (object, channel, x, y, z)", structure_noise),
        ("stage 1: structure", "latent of the occupancy", structure.sample),
        ("structure decoder", "occupied voxels, each (object, x, y, z)", voxels),
        ("stage 2: structured latents", "noise on the voxels", latent_noise),
        ("stage 2: structured latents", "latents of the voxels", latents.feats),
        ("mesh decoder, FlexiCubes", "vertices", mesh.vertices),
        ("mesh decoder, FlexiCubes", "faces", mesh.faces),
        ("mesh decoder, FlexiCubes", "color and normal of each vertex", mesh.attributes),
        ("Gaussian decoder", "means of the Gaussians", gaussians.means),
    ]
    return pd.DataFrame(
        [(stage, what, tuple(x.shape)) for stage, what, x in rows], columns=["stage", "tensor", "shape"]
    )
