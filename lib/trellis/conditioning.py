"""From a photo to the condition of both flows: background, crop, and DINOv2 tokens (paper Sec. 3.3)."""

import importlib.util

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn
from transformers import Dinov2WithRegistersModel

from lib.errors import BadInput

OPAQUE = 0.8 * 255  # alpha above which a pixel belongs to the object
MARGIN = 1.2  # side of the crop, in sides of the object's box
PUBLISHED_NAMES = {"dinov2_vitl14_reg": "facebook/dinov2-with-registers-large"}  # short names in pipeline.json
BORDER_TOLERANCE = 10  # largest difference between the border's pixels and their median color for a plain background


def prepare_photo(photo: Image.Image, size: int = 518) -> Image.Image:
    """Crop the object, composite it on black and resize: RGB size x size.

    Uses the photo's alpha channel; a photo without one first loses its background (see `remove_background`).
    Raises BadInput for a photo without an opaque object.
    """
    rgba = photo.convert("RGBA") if photo.has_transparency_data else photo.convert("RGB")
    if rgba.mode == "RGB" or rgba.getchannel("A").getextrema()[0] == 255:
        rgba = rgba.convert("RGB")
        scale = min(1, 1024 / max(rgba.size))
        rgba = rgba.resize((int(rgba.width * scale), int(rgba.height * scale)), Image.Resampling.LANCZOS)
        rgba = remove_background(rgba)
    y, x = np.nonzero(np.asarray(rgba)[..., 3] > OPAQUE)
    if not len(x) or max(np.ptp(x), np.ptp(y)) < 2:
        raise BadInput("photo", "no opaque object in it", "Give a photo whose alpha channel is 255 on the object.")
    half = int(MARGIN * max(np.ptp(x), np.ptp(y))) // 2
    center_x, center_y = (x.min() + x.max()) / 2, (y.min() + y.max()) / 2
    rgba = rgba.crop((center_x - half, center_y - half, center_x + half, center_y + half))
    pixels = np.asarray(rgba.resize((size, size), Image.Resampling.LANCZOS)).astype(np.float32) / 255
    return Image.fromarray((pixels[..., :3] * pixels[..., 3:] * 255).astype(np.uint8))


def remove_background(photo: Image.Image) -> Image.Image:
    """RGB photo to RGBA: a plain background is recognised by its border, any other needs the package rembg.

    Raises BadInput for a busy background where rembg is not installed.
    """
    rgb = np.asarray(photo).astype(np.int16)
    edge = np.zeros(rgb.shape[:2], dtype=bool)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    distance = np.abs(rgb - np.median(rgb[edge], axis=0)).max(axis=2)
    if distance[edge].max() <= BORDER_TOLERANCE:
        label, _ = ndimage.label(distance <= BORDER_TOLERANCE)
        alpha = np.where(np.isin(label, np.unique(label[edge])), 0, 255).astype(np.uint8)
        return Image.fromarray(np.dstack([np.asarray(photo), alpha]))
    if importlib.util.find_spec("rembg") is None:
        remedy = "Install rembg (pip install rembg), or give a photo with an alpha channel or a plain background."
        raise BadInput("photo", "it has no alpha channel and no plain background", remedy)
    import rembg

    return rembg.remove(photo, session=rembg.new_session("u2net"))


class ImageConditioner(nn.Module):
    """DINOv2 with registers; its tokens before the final norm, normalised without parameters, are the condition."""

    def __init__(self, model: nn.Module):
        """model: transformers.Dinov2WithRegistersModel."""
        super().__init__()
        self.model = model
        self.image_size = model.config.image_size
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)

    def pixels(self, images: list[Image.Image]) -> Tensor:
        """RGB images to normalised pixels [B, 3, S, S]."""
        size = self.image_size, self.image_size
        resized = [np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS)) for image in images]
        pixels = torch.from_numpy(np.stack(resized)).to(self.mean.device).permute(0, 3, 1, 2)
        return (pixels.float() / 255 - self.mean) / self.std

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, S, S] to tokens [B, 1 + registers + patches, C] (1374 in the release)."""
        # model(...).last_hidden_state would be behind the final norm, which the release leaves out
        tokens = self.model.encoder(self.model.embeddings(pixels)).last_hidden_state
        return F.layer_norm(tokens, tokens.shape[-1:])


def load_conditioner(source: str) -> ImageConditioner:
    """Conditioner from a transformers folder or hub id, in float32; the published pipelines' short name is accepted."""
    source = PUBLISHED_NAMES.get(source, source)
    remedy = "Give a complete Dinov2WithRegistersModel folder or hub id."
    try:
        model, report = Dinov2WithRegistersModel.from_pretrained(source, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise BadInput(source, f"no image conditioner can be loaded ({str(error).splitlines()[0]})", remedy) from error
    if report["missing_keys"]:  # transformers fills them with random values and no more than a warning
        missing = min(report["missing_keys"])
        raise BadInput(source, f"weights of the image conditioner are missing, {missing} for one", remedy)
    return ImageConditioner(model.eval().requires_grad_(False))
