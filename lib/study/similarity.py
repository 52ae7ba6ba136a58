"""An image-similarity proxy: how alike a candidate's 24 views and the object's photo are to a vision encoder.

The companion study (arXiv 2606.18451) uses CLIP ViT-B/32 ("render-CLIP"). Miniature judges come with a tower trained on
renders like these, which stands in for it: judge X's, never Y's, since a proxy that shares Y's eyes would share its
blind spots. The photo is the reference because it is all that a generator was given; the mean is over all views because
the photo's side is not known in general.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import trimesh
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoImageProcessor, CLIPModel

from lib.errors import BadInput
from lib.judges.candidates import Picture
from lib.judges.forward import encode_images
from lib.judges.models import SMALL
from lib.judges.protocol import Judge
from lib.judges.vlm import VLMJudge
from lib.placement import best_device, resident
from lib.renderers.cameras import turntable
from lib.renderers.raycast import render, shaded_images

CLIP = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"  # ViT-B/32 of open_clip, as the companion; its weights are not named
VIEWS, LARGEST = 24, 256  # the companion's rig: views on the turntable, pixels of each


class Encoder(Protocol):
    """name: what the tables call it. A call maps pictures of one size to features (N, D)."""

    name: str

    def __call__(self, pictures: Sequence[np.ndarray]) -> Tensor: ...


class Tower:
    """A judge's own vision tower: what its language model reads of an image, averaged over the tokens."""

    def __init__(self, judge: VLMJudge):
        self.judge, self.name = judge, f"{judge.identity['model']} tower"

    def __call__(self, pictures):
        model, processor = self.judge.model, self.judge.processor
        resident(self.judge.device, model)
        inputs = processor.image_processor(pictures, return_tensors="pt", **getattr(processor, "images_kwargs", {}))
        pixels = inputs["pixel_values"].unflatten(0, (len(pictures), -1)).to(model.device, model.dtype)
        return encode_images(model, pixels).mean(1)


class Clip:
    """A CLIP model of transformers, from a folder or the hub. Raises BadInput for what is no CLIP model."""

    def __init__(self, model: str, device: torch.device):
        try:
            kind = AutoConfig.from_pretrained(model).model_type
            if kind != "clip":
                raise ValueError(f"it is a {kind} model")
            self.model = CLIPModel.from_pretrained(model).to(device).eval()
            self.processor = AutoImageProcessor.from_pretrained(model, backend="pil")
        except (OSError, ValueError) as error:
            problem = f"no CLIP model can be loaded from it ({error})"
            raise BadInput(
                model, problem, "Give the hub id or the folder of a CLIP model in transformers' layout"
            ) from error
        self.name = f"CLIP {model}"

    def __call__(self, pictures):
        pixels = self.processor(pictures, return_tensors="pt")["pixel_values"].to(self.model.device)
        return self.model.get_image_features(pixels).pooler_output


def choose_encoder(model: str | None, judge_x: Judge) -> Encoder:
    """CLIP `model`; where it is None, the tower of a miniature judge X, and `CLIP` beside a full-size or served one."""
    if not isinstance(judge_x, VLMJudge):
        return Clip(model or CLIP, best_device())
    if model is None and judge_x.model.num_parameters() < SMALL:
        return Tower(judge_x)
    return Clip(model or CLIP, judge_x.device)


def rig_views(mesh: trimesh.Trimesh, size: int) -> np.ndarray:
    """(24,size,size,3) uint8: shaded views around the object, on white, as in the layout turntable24."""
    return np.stack([Picture(view).pixels for view in shaded_images(render(mesh, turntable(VIEWS), size))])


@torch.inference_mode()
def similarity(encoder: Encoder, photo: np.ndarray, views: np.ndarray) -> list[float]:
    """For each of C candidates the mean cosine, to six digits, between the features of its views and the photo's.

    photo: (H,H,3) uint8 on white. views: (C,24,H,H,3) uint8, `rig_views` of each candidate.
    """
    reference, *seen = normalize(encoder([photo, *views.reshape(-1, *photo.shape)]).double(), dim=-1)
    return (torch.stack(seen) @ reference).reshape(len(views), -1).mean(1).cpu().numpy().round(6).tolist()
