"""Processors that need no torchvision: the stock classes without their video half, images always through PIL.

The stock processors of Qwen2.5-VL and InternVL demand a video processor, which demands torchvision, which has no CPU
build. A processor's parts are read from the signature of `__init__`, so leaving the argument out is enough. PIL on
every machine also keeps the pixels that a model sees the same everywhere. The subclasses keep the stock names, so that
a folder they save is an ordinary one; load it through `load_processor`, for `AutoProcessor` needs torchvision.
"""

import transformers
from transformers import AutoImageProcessor, AutoProcessor, ProcessorMixin

from lib.errors import BadInput

MAX_PIXELS = 1280 * 28 * 28  # Qwen2.5-VL: 1280 visual tokens an image, the upper end of its model card's range


class Qwen2_5_VLProcessor(transformers.Qwen2_5_VLProcessor):
    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        super().__init__(image_processor, tokenizer, chat_template=chat_template, **kwargs)


class InternVLProcessor(transformers.InternVLProcessor):
    def __init__(self, image_processor=None, tokenizer=None, image_seq_length=256, chat_template=None, **kwargs):
        super().__init__(
            image_processor, tokenizer, image_seq_length=image_seq_length, chat_template=chat_template, **kwargs
        )


IMAGE_ONLY = {"qwen2_5_vl": Qwen2_5_VLProcessor, "internvl": InternVLProcessor}


def load_processor(
    model: str, model_type: str, revision: str | None = None, max_pixels: int = MAX_PIXELS, tiles: int = 1
) -> ProcessorMixin:
    """The processor of a folder or hub id, with the resolution limits set instead of left to its defaults.

    max_pixels (Qwen2.5-VL): larger images are scaled down to it; the folder's own limit stands where it is lower.
    tiles (InternVL): an image becomes up to this many tiles and a thumbnail; 1 is the whole image once. Other models
    keep their own settings. Raises BadInput where the processor cannot be loaded.
    """
    try:
        if model_type not in IMAGE_ONLY:
            return AutoProcessor.from_pretrained(model, revision=revision)
        processor = IMAGE_ONLY[model_type].from_pretrained(model, revision=revision)
        processor.image_processor = AutoImageProcessor.from_pretrained(model, revision=revision, backend="pil")
    except (ImportError, OSError, ValueError) as error:
        raise BadInput(
            model, f"its processor does not load ({error})", "Check the folder's files, or the hub id"
        ) from error
    if model_type == "qwen2_5_vl":
        size = processor.image_processor.size
        processor.image_processor.size = {
            "shortest_edge": size["shortest_edge"],
            "longest_edge": min(size["longest_edge"], max_pixels),
        }
    else:
        processor.images_kwargs = {"crop_to_patches": tiles > 1, "max_patches": tiles}
    return processor


def describe(processor: ProcessorMixin) -> dict:
    """What decides the pixels a model sees, as JSON values: the image processor's settings and their overrides."""
    settings = processor.image_processor.to_dict()
    return {"image_processor": settings, "overrides": getattr(processor, "images_kwargs", {})}
