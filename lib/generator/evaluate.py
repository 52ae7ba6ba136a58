"""What the generator reaches, beside what it should reach: the table of notebook A1."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.stats import bootstrap
from tqdm.auto import tqdm

from lib.data.compare import F_SCORE_THRESHOLD, surface_points
from lib.data.procedural import furniture
from lib.generator.examine import Cost, Examined, outer_surface
from lib.renderers.raycast import scene
from lib.stats.intervals import CONFIDENCE, Estimate, proportion

POINTS = 500  # on a surface, where every object is compared with every other
RESAMPLES = 2000


@dataclass(frozen=True)
class Row:
    """A line of the table: an estimate, the bar in words, and whether the value meets it (None without a bar)."""

    metric: str
    estimate: Estimate
    bar: str = ""
    met: bool | None = None


def summarize(examined: Sequence[Examined], right: Sequence[bool], costs: Sequence[Cost], seed: int) -> pd.DataFrame:
    """metric, value, low, high (95%, over objects), n, bar, met. Shares have exact intervals, means and medians the
    percentile bootstrap. right: what `recognized` says."""
    of = pd.DataFrame([one.values for one in examined])
    loss = {name: 1 - of[f"F, {name}"] for name in ("clean", "mild", "medium", "severe", "other")}

    def mean(values) -> Estimate:
        return resampled(values, np.mean, seed)

    def median(values) -> Estimate:
        return resampled(values, np.median, seed)

    rows = [
        at_least("structure IoU at 16^3", mean(of["IoU, clean"]), 0.60),
        Row("structure IoU at 16^3, photo of another object", mean(of["IoU, other"])),
        at_least("reconstruction: F-score at 2%", mean(of["reconstruction, F"]), 0.98),
        at_most("reconstruction: color L1", mean(of["reconstruction, color"]), 0.03),
        Row("reconstruction: silhouette IoU of the Gaussians", mean(of["Gaussians, silhouette"])),
        Row("reconstruction: color L1 of the Gaussians", mean(of["Gaussians, color"])),
        at_least("generated mesh: median F-score at 2%", median(of["F, clean"]), 0.60),
        at_least("generated mesh: median share of the largest component", median(of["share, clean"]), 0.90),
        at_least("category by nearest test object", share(right), 0.90),
        at_least("25 steps with guidance beat 2 without", share(of["F, large"] > of["F, small"]), 0.85),
        at_least("clean photo beats severe", share(loss["clean"] < loss["severe"]), 0.90),
        Row("mean loss (1 - F), clean photo", mean(loss["clean"])),
        Row("mean loss (1 - F), mild photo", mean(loss["mild"])),
    ]
    for easier, harder in pairwise(("mild", "medium", "severe", "other")):
        what = "photo of another object" if harder == "other" else f"{harder} photo"
        met = bool(loss[harder].mean() > loss[easier].mean())
        rows.append(Row(f"mean loss (1 - F), {what}", mean(loss[harder]), f"> {easier}", met))
    between, change = mean(of["F between seeds"]), mean(of["F, other seed"] - of["F, clean"])
    rows += [
        Row("mean F-score between two seeds", between, "< 0.97", bool(between.value < 0.97)),
        Row("mean F-score, second seed less first", change, "0 in the interval", change.holds(0)),
    ]
    return pd.DataFrame([line(row) for row in rows + cost_rows(examined, costs, seed)])


def cost_rows(examined: Sequence[Examined], costs: Sequence[Cost], seed: int) -> list[Row]:
    """Processor time, memory, and whether the same call in another process makes the same mesh."""
    seconds = np.concatenate([cost.seconds for cost in costs])
    again = {index: digest for cost in costs for index, digest in cost.digests.items()}
    same = [one.digest == again[one.index] for one in examined if one.index in again]
    hundred = 100 / len(costs) * max(np.mean(cost.seconds) for cost in costs) / 60
    peak = max(cost.memory for cost in costs)
    return [
        at_most("photo to mesh, one core, median seconds", resampled(seconds, np.median, seed), 2.0),
        at_most("100 photos, two cores, minutes", exactly(hundred, len(seconds)), 2.5),
        at_most("peak memory of a process, GB", exactly(peak, len(costs)), 3.0),
        at_least("identical mesh on repeat", share(same), 1.0),
    ]


def at_least(metric: str, estimate: Estimate, bar: float) -> Row:
    return Row(metric, estimate, f">= {bar:.2f}", bool(estimate.value >= bar))


def at_most(metric: str, estimate: Estimate, bar: float) -> Row:
    return Row(metric, estimate, f"<= {bar:.2f}", bool(estimate.value <= bar))


def line(row: Row) -> dict:
    low, high = row.estimate.low, row.estimate.high
    numbers = {"value": row.estimate.value, "low": low, "high": high, "n": row.estimate.n}
    return {"metric": row.metric, **numbers, "bar": row.bar, "met": {True: "yes", False: "no", None: ""}[row.met]}


def share(happened) -> Estimate:
    """How often, with the exact interval."""
    return proportion(int(np.sum(happened)), len(happened))


def exactly(value: float, n: int) -> Estimate:
    """A measured number without an interval."""
    return Estimate(float(value), float("nan"), float("nan"), n, "measured")


def resampled(values, statistic: Callable, seed: int) -> Estimate:
    """A statistic of one number an object, with its percentile bootstrap over objects."""
    values = np.asarray(values, float)
    value = float(statistic(values))
    if len(values) < 2:
        return Estimate(value, float("nan"), float("nan"), len(values), "one object")
    rng = np.random.default_rng(seed)
    kind = {"n_resamples": RESAMPLES, "confidence_level": CONFIDENCE, "method": "percentile", "rng": rng}
    interval = bootstrap((values,), statistic, **kind).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high), len(values), "bootstrap over objects")


def recognized(examined: Sequence[Examined], seed: int) -> list[bool]:
    """Whether the test object, of those examined, with the highest F-score is of the right category."""
    true = [outer_surface(furniture("test", one.index)) for one in examined]
    near = np.array([F_SCORE_THRESHOLD * np.linalg.norm(mesh.extents) for mesh in true])[:, None]
    points = np.stack([surface_points(mesh, POINTS, seed) for mesh in true]).astype(np.float32)
    scenes, right = [scene(mesh) for mesh in true], []
    for one in tqdm(examined, desc="nearest objects", mininterval=1):
        mesh = one.meshes["clean"]
        if mesh is None:
            right.append(False)
            continue
        own = surface_points(mesh, POINTS, seed).astype(np.float32)
        precision = (np.stack([other.compute_distance(own).numpy() for other in scenes]) <= near).mean(1)
        recall = (scene(mesh).compute_distance(points).numpy() <= near).mean(1)
        score = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
        right.append(examined[int(score.argmax())].category == one.category)
    return right
