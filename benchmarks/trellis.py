"""Speed of the generator's parts: medians of interleaved runs, so that ratios hold on a busy machine too.

python -m benchmarks.trellis                      all parts
python -m benchmarks.trellis convolution --threads 1 --cpu-time
"""

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from lib.trellis.checkpoints import build_model
from lib.trellis.flexicubes import corner_steps, flexicubes
from lib.trellis.layers import grid_coords
from lib.trellis.mesh_decoder import SparseSubdivideBlock3d
from lib.trellis.mesh_extraction import cell_channels, extract_mesh
from lib.trellis.sparse import SparseTensor, neighbors, subdivide
from lib.trellis.sparse_conv import SparseConv3d
from lib.trellis.transformer import ModulatedCrossBlock

try:
    import spconv.pytorch as spconv  # for comparison only: pip install spconv
except ImportError:
    spconv = None


clock = time.perf_counter


def medians(parts: dict[str, Callable], repeats: int = 9) -> dict[str, float]:
    """Median seconds of each function, called in turn after one warm-up round."""
    seconds = {name: [] for name in parts}
    for _ in range(repeats + 1):
        for name, function in parts.items():
            start = clock()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(clock() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def report(text: str, seconds: float, goal: str = "") -> None:
    print(f"{text:<78} {seconds:9.4f} s  {goal}", flush=True)


def shell(n: int, resolution: int) -> Tensor:
    """The n cells nearest to a sphere: int32 [n, 4] with batch index 0, in grid order."""
    cells = grid_coords(resolution)
    distance = ((cells + 0.5) / resolution - 0.5).norm(dim=1) - 0.4
    cells = cells[distance.abs().argsort()[:n].sort().values]
    return torch.cat([torch.zeros_like(cells[:, :1]), cells], dim=1).int()


@torch.no_grad()
def convolution() -> None:
    """Sub-manifold convolution of 10,000 surface voxels and 128 channels against spconv's CPU build."""
    coords, feats = shell(10_000, 64), torch.randn(10_000, 128)
    x = SparseTensor(feats, coords)
    ours = SparseConv3d(128, 128, 3)
    present = neighbors(x).density * 27
    report(f"neighbors of 10,000 voxels ({present:.1f} of 27 present), once a sample", once(lambda: fresh(x)))
    parts = {"ours": lambda: ours(feats, neighbors(x))}
    if spconv is not None:
        theirs = spconv.SubMConv3d(128, 128, 3, indice_key="voxels")
        theirs.weight, theirs.bias = ours.conv.weight, ours.conv.bias
        first = theirs(spconv.SparseConvTensor(feats, coords, [64] * 3, 1))

        def cached():
            again = spconv.SparseConvTensor(feats, coords, [64] * 3, 1)
            again.indice_dict = first.indice_dict
            return theirs(again).features

        parts["spconv"] = cached
        # above 1e-5 on several threads: they write to the same rows in spconv's CPU build (2.3.8)
        print(f"largest difference to spconv: {(cached() - parts['ours']()).abs().max():.1e}")
    found = medians(parts, 25)
    report("convolution, 10,000 voxels x 128 channels, neighbors cached", found["ours"])
    if spconv is not None:
        goal = f"goal 1: ours/spconv = {found['ours'] / found['spconv']:.2f}"
        report("  spconv's CPU build, indices cached", found["spconv"], goal)


def once(function: Callable) -> float:
    return medians({"it": function}, 5)["it"]


def fresh(x: SparseTensor) -> None:
    neighbors(SparseTensor(x.feats, x.coords))


def subdivision() -> None:
    """Subdivide + two convolutions, forward and backward, against the same without folding and shared neighbors."""
    x = SparseTensor(torch.randn(677, 64), shell(677, 16))
    neighbors(x)
    block = SparseSubdivideBlock3d(64, 64, 8)
    upsample = [SparseSubdivideBlock3d(64, 16, 8), SparseSubdivideBlock3d(16, 8, 8)]

    def train(blocks) -> None:
        h = x.with_feats(x.feats.clone().requires_grad_())
        for layer in blocks:
            h = layer(h)
        h.feats.square().mean().backward()

    def plain() -> None:
        conv1, norm, activation, conv2 = block.out_layers
        children = subdivide(x.with_feats(block.act_layers[1](block.act_layers[0](x).feats).requires_grad_()))
        h = activation(norm(children.with_feats(conv1(children.feats, neighbors(children)))).feats)
        (conv2(h, neighbors(children)) + children.feats).square().mean().backward()

    found = medians({"block": lambda: train([block]), "plain": plain, "both": lambda: train(upsample)})
    goal = f"goal 0.1 s; {found['plain'] / found['block']:.1f} x the plain way"
    report("subdivide + 2 convolutions, forward + backward, 677 voxels x 64 -> 64", found["block"], goal)
    report("both up-samplings of the mesh decoder, 677 -> 43,328 cells, 64 -> 16 -> 8", found["both"])


def extraction() -> None:
    """Mesh of a 10,000-voxel object at 256^3, in a process of its own to see its memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds, gigabytes, faces = pool.apply(_extract, (torch.get_num_threads(),))
    report(f"mesh extraction, 10,000 voxels at 256^3 ({faces:,} faces)", seconds, "goal 60 s")
    print(f"  peak memory of the process, libraries included: {gigabytes:.2f} GB  goal 4 GB")


@torch.no_grad()
def _extract(threads: int) -> tuple[float, float, int]:
    torch.set_num_threads(threads)
    cells = subdivide(subdivide(SparseTensor(torch.zeros(10_000, 1), shell(10_000, 64)))).coords[:, 1:]
    feats = torch.randn(len(cells), cell_channels(True), generator=torch.Generator().manual_seed(0)) * 0.1
    for rows, block in zip(feats.split(65_536), cells.split(65_536), strict=True):
        rows[:, :8] = ((block[:, None] + corner_steps()) / 256 - 0.5).norm(dim=2) - 0.4
    start = time.perf_counter()
    mesh = extract_mesh(cells, feats, 256)
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, len(mesh.faces)


@torch.no_grad()
def surface() -> None:
    """FlexiCubes on a dense 64^3 grid."""
    n = 64
    cubes, linear = grid_coords(n), torch.tensor([(n + 1) ** 2, n + 1, 1])
    corners = ((cubes[:, None] + corner_steps()) * linear).sum(-1)
    positions = grid_coords(n + 1) / n - 0.5
    sdf, colors = positions.norm(dim=1) - 0.4, torch.rand(len(positions), 6)
    weights = torch.randn(n**3, 12), torch.randn(n**3, 8), torch.randn(n**3)
    seconds = once(lambda: flexicubes(cubes, corners, positions, sdf, n, colors, weights))
    report("FlexiCubes with weights and colors on a 64^3 grid", seconds, "goal 0.3 s")


@torch.no_grad()
def precision() -> None:
    """One full-size block of the structure flow, 4,096 tokens, in float32 and bfloat16."""
    inputs = torch.randn(1, 4096, 1024), torch.randn(1, 1024), torch.randn(1, 1374, 1024)
    block = ModulatedCrossBlock(1024, 1024, 16, 4, qk_rms_norm=True).eval()
    half = ModulatedCrossBlock(1024, 1024, 16, 4, qk_rms_norm=True).eval()
    half.load_state_dict(block.state_dict())
    for linear in half.modules():
        if isinstance(linear, torch.nn.Linear):
            linear.to(torch.bfloat16)
    halved = [x.bfloat16() for x in inputs]
    found = medians({"fp32": lambda: block(*inputs), "bf16": lambda: half(*halved)}, 2)
    report("one block of the structure flow, float32", found["fp32"])
    report("one block of the structure flow, bfloat16", found["bf16"], f"{found['fp32'] / found['bf16']:.1f} x faster")


@torch.no_grad()
def gpu() -> None:
    """Full-size forwards of both flows with random float16 weights against the time of their products alone."""
    if not torch.cuda.is_available():
        print("full-size flows: no GPU here")
        return
    args = {"in_channels": 8, "out_channels": 8, "model_channels": 1024, "cond_channels": 1024, "num_blocks": 24}
    args |= {"num_heads": 16, "qk_rms_norm": True, "use_fp16": True}
    with torch.device("cuda"):
        a = torch.randn(8192, 8192, dtype=torch.float16)
        rate = 2 * 8192**3 / once(lambda: a @ a)
        print(f"float16 products run at {rate / 1e12:.0f} TFLOP/s")
        t, cond = torch.full((1,), 500.0), torch.randn(1, 1374, 1024)
        structure = build_model("SparseStructureFlowModel", args | {"resolution": 16, "patch_size": 1})
        noise = torch.randn(1, 8, 16, 16, 16)
        flow = build_model("SLatFlowModel", args | {"resolution": 64, "io_block_channels": [128]})
        voxels = SparseTensor(torch.randn(6800, 8), shell(6800, 64).cuda())
    # FLOP of one forward: section "cost" of the paper's networks, 4,096 tokens and 6,800 voxels
    parts = {"structure flow": (structure, noise, 5.2e12), "latent flow, 6,800 voxels": (flow, voxels, 2.4e12)}
    for name, (model, x, flop) in parts.items():
        seconds = once(lambda model=model, x=x: model(x, t, cond))
        report(f"{name}, one full-size forward", seconds, f"{seconds * rate / flop:.1f} x the time of its products")


PARTS = {f.__name__: f for f in (convolution, subdivision, extraction, surface, precision, gpu)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[], help=f"any of {', '.join(PARTS)}")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    parser.add_argument("--cpu-time", action="store_true", help="CPU seconds: what an idle machine takes on one thread")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.cpu_time else time.perf_counter
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {options.threads} threads, spconv {'present' if spconv else 'absent'}")
    for part in options.parts or PARTS:
        PARTS[part]()
