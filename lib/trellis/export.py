"""Files that other programs open: GLB with vertex colors for meshes, PLY for Gaussians."""

from pathlib import Path

import numpy as np
import torch
import trimesh
from torch import Tensor

from lib.trellis.gaussian_decoder import Gaussians
from lib.trellis.mesh_extraction import Mesh


def to_trimesh(mesh: Mesh) -> trimesh.Trimesh:
    """The mesh in object space (z up), its RGB attributes as uint8 RGBA vertex colors; gray without color."""
    rgb = mesh.attributes[:, :3] if mesh.attributes.shape[1] else torch.full_like(mesh.vertices, 0.5)
    colors = torch.cat([rgb, torch.ones_like(rgb[:, :1])], dim=1).clamp(0, 1).mul(255).round().byte()
    arrays = [t.detach().cpu().numpy() for t in (mesh.vertices, mesh.faces, colors)]
    return trimesh.Trimesh(arrays[0], arrays[1], vertex_colors=arrays[2], process=False)


def write_glb(mesh: Mesh, path: str | Path) -> None:
    """Write a GLB, which has y up: (x, y, z) becomes (x, z, -y)."""
    turned = to_trimesh(mesh)
    turned.vertices = turned.vertices[:, [0, 2, 1]] * [1, 1, -1]
    turned.export(path, file_type="glb")


def write_ply(gaussians: Gaussians, path: str | Path) -> None:
    """Write the PLY of 3D Gaussian splatting (binary; log scales, opacity logits, degree-0 harmonics).

    As published, positions become (x, -z, y) and orientations turn along: splat viewers look at scenes with y down.
    """
    turn = gaussians.xyz.new_tensor([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    half = 0.5**0.5  # `turn` as a quaternion: 90 degrees about x
    columns = {
        ("x", "y", "z"): gaussians.means @ turn.T,
        ("nx", "ny", "nz"): torch.zeros_like(gaussians.means),
        ("f_dc_0", "f_dc_1", "f_dc_2"): gaussians.features_dc[:, 0],
        ("opacity",): torch.logit(gaussians.opacities)[:, None],
        ("scale_0", "scale_1", "scale_2"): gaussians.scales.log(),
        ("rot_0", "rot_1", "rot_2", "rot_3"): multiply_quaternions(
            gaussians.xyz.new_tensor([half, half, 0, 0]), gaussians.rotations
        ),
    }
    names = [name for group in columns for name in group]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(gaussians.xyz)}"]
    header += [*(f"property float {name}" for name in names), "end_header", ""]
    values = torch.cat(list(columns.values()), dim=1).detach().cpu().numpy().astype("<f4")
    Path(path).write_bytes("\n".join(header).encode() + np.ascontiguousarray(values).tobytes())


def multiply_quaternions(a: Tensor, b: Tensor) -> Tensor:
    """Rotation b [..., 4] (w, x, y, z) followed by rotation a [4]."""
    w, x, y, z = a
    left = torch.stack([w, -x, -y, -z, x, w, -z, y, y, z, w, -x, z, -y, x, w]).view(4, 4)
    return b @ left.T
