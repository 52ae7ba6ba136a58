"""Samples of the generator: each is on record with its truth, and is drawn, or drawn again, where its mesh is needed.

A sample is a function of its request: photo, budget, seed, adapter. Its numbers are in `records/samples.jsonl`; its
mesh and latents are in the cache, which may be deleted at any time. So tables need no generator, and a judge that is
new to the records gets the pictures it must see. Drawn on another machine, a sample may differ from its record in the
last bits. The digests of the photos are in `records/photos.jsonl`; delete both files after a change to what makes
photos.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from PIL import Image
from tqdm.auto import tqdm

from lib.data.degrade import KINDS, SEVERITIES
from lib.generator.examine import noise_seed
from lib.generator.loading import find_generator
from lib.judges.candidates import Candidate, Pair
from lib.profiles import Profile, find_folder
from lib.study.drawing import MONTAGE, WITH_PHOTO, Drawn, Task, draw, read, shown
from lib.study.records import Records
from lib.study.shelf import mesh_digest
from lib.study.subjects import CLEAN, Subject, photo_digest


@dataclass(frozen=True)
class Request:
    """One sample. steps, guidance: None is the generator's own setting. adapter: its id, a folder in the cache."""

    subject: Subject
    seed: int
    severity: str = CLEAN  # of the photo's degradation
    kinds: tuple[str, ...] = KINDS
    steps: int | None = None
    guidance: float | None = None
    adapter: str | None = None
    scale: float = 1.0  # of the adapter

    def photo(self) -> Image.Image:
        """What the sample is made from, RGBA."""
        return self.subject.photo(self.severity, self.kinds)

    @property
    def noise(self) -> int:
        """What the noise is drawn from; no two objects share it."""
        return noise_seed(self.subject.item.id, self.seed)

    @property
    def budget(self) -> dict:
        """As `Pipeline.sample` takes it."""
        named = {"steps": self.steps, "guidance": self.guidance}
        return {name: value for name, value in named.items() if value is not None}


class Sampler:
    """Draws requests with a profile's generator, in as many processes as there are workers (-1: one a core).

    Raises BadInput where there is no generator.
    """

    def __init__(self, settings: Profile, workers: int = -1):
        self.settings, self.workers = settings, 1 if torch.cuda.is_available() else workers
        self.folder, self.weights = find_generator(find_folder(settings.generator))
        self.records = Records(settings.records_dir / "samples.jsonl")
        self.make_adapters: Callable[[Iterable[str]], object] = list  # trains those whose weights are missing
        self.photos = Records(settings.records_dir / "photos.jsonl")
        self._keys: dict[Request, str] = {}
        self._photos: dict[tuple, str] = {}

    def setting(self, request: Request) -> dict:
        """Everything but object, photo and seed that can change a sample, as JSON values."""
        settings, of = self.settings, request
        made = {"weights": self.weights, "fill_interior": settings.fill_interior, "tile": settings.tile}
        return made | {"steps": of.steps, "guidance": of.guidance, "adapter": of.adapter, "scale": of.scale}

    def key(self, request: Request) -> str:
        """What the sample is on record under."""
        if request not in self._keys:
            parts = self.setting(request), request.subject.item.id, self.photo_digest(request), request.noise
            self._keys[request] = Records.key(*parts)
        return self._keys[request]

    def measured(self, requests: Sequence[Request]) -> pd.DataFrame:
        """One row a request, in order: key, object, seed, and what `draw` measures, with `validity` as the mean of its
        four features. What has no record is drawn first."""
        self.records.refresh()
        self.look(requests)
        self._draw([request for request in requests if self.key(request) not in self.records])
        frame = pd.DataFrame([self.records[self.key(request)] for request in requests])
        return frame.assign(validity=[float(np.mean(features)) for features in frame.validity])

    def provide(self, requests: Sequence[Request]):
        """Draws those whose meshes are not in the cache."""
        self._draw([request for request in requests if not self.file(request).exists()])

    def prepare(self, pairs: Sequence[Pair]):
        """Draws all samples among the candidates of these pairs at once (`lib.judges.protocol.judge_pairs`)."""
        images = [one.images for pair in pairs for one in (pair.a, pair.b)]
        self.provide([one.request for one in images if isinstance(one, _Pictures)])

    def drawn(self, request: Request) -> Drawn:
        """Mesh and latents; drawn first where they are not in the cache."""
        self.provide([request])
        return read(self.file(request))

    def shown(self, request: Request, layout: str = MONTAGE) -> Sequence[np.ndarray]:
        """What a judge sees of a sample; drawn first where it is not in the cache."""
        self.provide([request])
        return shown(self.file(request), self.settings.tile, layout)

    def candidate(self, request: Request, layout: str) -> Candidate:
        """A sample that is on record, as a judge sees it; its picture is made when a judge looks at it."""
        key = self.key(request)
        digests = {name: [self.records[key]["montage"]] for name in (MONTAGE, WITH_PHOTO)}
        return Candidate(request.subject.item.id, _Pictures(self, request, layout), {"sample": key}, digests)

    def photo_digest(self, request: Request) -> str:
        """Of the photo that the sample is made from."""
        key = self._photo_key(request)
        if key not in self.photos:
            self.look([request])
        return self.photos[key]["photo"]

    def look(self, requests: Sequence[Request]):
        """Makes the photos that are not on record, to record their digests."""
        photos = {self._photo_key(one): (one.subject, one.severity, one.kinds) for one in requests}
        new = {key: of for key, of in photos.items() if key not in self.photos}
        if new:
            seen = tqdm(new.items(), "photos", mininterval=1, disable=len(new) == 1)
            self.photos.add([{"key": key, "photo": photo_digest(*of)} for key, of in seen])

    def _photo_key(self, request: Request) -> str:
        """What the photo's digest is on record under."""
        of = request.subject, request.severity, request.kinds
        if of not in self._photos:
            subject, clean = of[0], request.severity == CLEAN
            taken = None if clean else [SEVERITIES[request.severity], request.kinds, subject.seed]
            self._photos[of] = Records.key(subject.item.id, mesh_digest(subject.item.mesh), subject.size, taken)
        return self._photos[of]

    def file(self, request: Request) -> Path:
        """Where mesh, montage and latents are kept; see `lib.study.drawing.read`."""
        return self.settings.cache_dir / "drawn" / f"{self.key(request)}.npz"

    def adapter_folder(self, name: str) -> Path:
        """Where an adapter's weights are kept."""
        return self.settings.cache_dir / "adapters" / name

    def _task(self, request: Request) -> Task:
        folder = self.adapter_folder(request.adapter) if request.adapter else None
        return Task(request.photo(), request.noise, request.budget, folder, request.scale, self.file(request))

    def _draw(self, requests: Sequence[Request]):
        if not requests:
            return
        self.make_adapters({request.adapter for request in requests if request.adapter})
        groups: dict[Subject, list[Request]] = {}
        for request in dict.fromkeys(requests):
            groups.setdefault(request.subject, []).append(request)
        one, shown = delayed(draw), (self.settings.tile, self.settings.fill_interior)
        run = Parallel(self.workers if len(groups) > 1 else 1, return_as="generator")(
            one(self.folder, self.weights, subject.item, [*map(self._task, group)], *shown)
            for subject, group in groups.items()
        )
        with tqdm(total=sum(map(len, groups.values())), desc="sampling", mininterval=1) as bar:
            for group, values in zip(groups.values(), run, strict=True):
                self.records.add([self._line(*both) for both in zip(group, values, strict=True)])
                bar.update(len(group))

    def _line(self, request: Request, values: dict) -> dict:
        line = {"key": self.key(request), "setting": self.records.constant("setting", self.setting(request))}
        return (
            line
            | {"object": request.subject.item.id, "photo": self.photo_digest(request), "seed": request.seed}
            | values
        )


class _Pictures(Mapping):
    """A candidate's images for one layout, made when they are asked for."""

    def __init__(self, sampler: Sampler, request: Request, layout: str):
        self.sampler, self.request, self.layout = sampler, request, layout

    def __getitem__(self, layout: str):
        if layout != self.layout:
            raise KeyError(layout)
        return self.sampler.shown(self.request, layout)

    def __iter__(self) -> Iterator[str]:
        return iter([self.layout])

    def __len__(self) -> int:
        return 1
