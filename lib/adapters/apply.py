"""A trained adapter in use: one way for both kinds, and nothing of it left behind.

    with adapted(pipeline, folder, scale=0.5) as used:
        samples = used.sample(photo, seed)

What the folder holds says which kind it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from uuid import uuid4

from torch import Tensor, nn

from lib.adapters.repair import CONFIG, Repair, load_repair
from lib.trellis.conditioning import ImageConditioner
from lib.trellis.lora import adapter_names, lora_layers, remove_lora
from lib.trellis.pipeline import FLOWS, Pipeline


class RepairedConditioner(nn.Module):
    """The conditioner with the repair behind it."""

    def __init__(self, conditioner: ImageConditioner, repair: Repair, scale: float):
        super().__init__()
        self.conditioner, self.repair, self.scale = conditioner, repair, scale
        self.model, self.image_size, self.pixels = conditioner.model, conditioner.image_size, conditioner.pixels

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, S, S] to the repaired condition [B, L, C]."""
        return self.repair(self.conditioner(pixels), self.scale)


@contextmanager
def adapted(pipeline: Pipeline, folder: str | Path | None, scale: float = 1.0) -> Iterator[Pipeline]:
    """A pipeline whose samples have the adapter in `folder`, LoRA or conditioner repair, while the block lasts.

    scale: factor on what the adapter changes, in the weights (LoRA) or in the condition (repair). At 0, and without a
    folder, it is the base to the bit. The given pipeline samples as the base, inside the block and after it; blocks
    may be nested to combine both kinds. Raises BadInput for a folder without an adapter, or that of another network.
    """
    used, name = copy(pipeline), uuid4().hex
    used.conditioner = pipeline.conditioner  # loaded once for all copies
    if folder is None or scale == 0:
        yield used
    elif Path(folder, CONFIG).is_file():
        repair = load_repair(folder, used.conditioner.model.config.hidden_size).to(pipeline.device)
        used.conditioner = RepairedConditioner(used.conditioner, repair, scale)
        yield used
    else:
        flows = [pipeline.models[role] for role in FLOWS]
        used.settings = {stage: settings | {"adapter": name} for stage, settings in pipeline.settings.items()}
        try:
            pipeline.load_adapter(name, folder)
            for layer in (layer for flow in flows for layer in lora_layers(flow)):
                layer.set_scale(name, scale)
            yield used
        finally:
            for flow in flows:
                if name in adapter_names(flow):
                    remove_lora(flow, name)
