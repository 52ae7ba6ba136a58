"""Samples on record: what they depend on, what is drawn when, and that they are measured against the true surface."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_folder import write_pipeline

from lib import profiles
from lib.data.procedural import furniture
from lib.errors import BadInput
from lib.generator.examine import SMALL, outer_surface
from lib.generator.loading import find_generator
from lib.judges.candidates import Pair, Picture
from lib.judges.prompts import LAYOUTS
from lib.judges.protocol import judge_pairs
from lib.judges.verdicts import Answer
from lib.profiles import load_profile
from lib.study import drawing, samples
from lib.study.drawing import measures, pictures
from lib.study.records import Records
from lib.study.samples import Request, Sampler
from lib.study.subjects import require_disjoint, subjects
from lib.trellis.pipeline import load_pipeline
from lib.trellis.tiny import tiny_args, tiny_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pipeline(tiny_pipeline(0), tmp_path_factory.mktemp("generator"))


@pytest.fixture
def sampler(tmp_path, folder, monkeypatch):
    """On a result folder of its own; counts in `drawn` what is drawn."""
    monkeypatch.setattr(profiles, "ROOT", tmp_path)
    made = Sampler(load_profile("smoke", generator=str(folder)), workers=1)
    made.drawn_count = []
    monkeypatch.setattr(samples, "draw", lambda *job: made.drawn_count.append(len(job[3])) or drawing.draw(*job))
    return made


@pytest.fixture
def given():
    return subjects([furniture("test", index) for index in (0, 1)], 64, 5)


def test_a_sample_depends_on_photo_budget_and_seed_and_on_nothing_else(sampler, given):
    first, other = given
    requests = [Request(first, 1), Request(first, 2), Request(first, 1, "severe"), Request(first, 1, **SMALL)]
    requests += [Request(other, 1), replace(requests[0])]
    frame = sampler.measured(requests)
    assert frame.key.nunique() == frame.montage.nunique() == 5
    assert frame.iloc[0].equals(frame.iloc[5])
    alone = drawing.draw(sampler.folder, sampler.weights, first.item, [sampler._task(requests[1])], 56, True)[0]
    assert alone["montage"] == frame.montage[1]
    assert sum(sampler.drawn_count) == 5


def test_what_is_on_record_is_not_drawn_and_its_mesh_is_drawn_again_where_it_is_needed(sampler, given):
    request = Request(given[0], 1, **SMALL)
    before, mesh = sampler.measured([request]), sampler.drawn(request).mesh
    shutil.rmtree(sampler.settings.cache_dir)
    later = Sampler(sampler.settings, workers=1)
    assert later.measured([request]).equals(before)
    assert sampler.drawn_count == [1]
    again = later.drawn(request).mesh
    assert sampler.drawn_count == [1, 1]
    assert np.array_equal(again.vertices, mesh.vertices)
    assert later.measured([request]).equals(before)


def test_a_kept_sample_is_shown_without_rendering_it_in_the_layouts_of_its_montage(sampler, given, monkeypatch):
    request = Request(given[0], 1, **SMALL)
    (montage,) = sampler.shown(request)
    assert np.array_equal(montage, pictures(sampler.drawn(request).mesh, sampler.settings.tile)[0])
    turntable = sampler.shown(request, "seven_images")
    assert len(turntable) == 3
    monkeypatch.setattr(drawing, "pictures", lambda *_: pytest.fail("rendered again"))
    for layout in ("montage", "montage_ref"):
        assert np.array_equal(sampler.shown(request, layout)[0], montage)
    with pytest.raises(pytest.fail.Exception):
        sampler.shown(request, "seven_images")


def test_photos_on_record_are_not_taken_again(sampler, given, monkeypatch):
    requests = [Request(given[0], 1, severity, **SMALL) for severity in ("clean", "severe")]
    before = sampler.measured(requests)
    monkeypatch.setattr(samples, "photo_digest", lambda *_: pytest.fail("it is on record"))
    later = Sampler(sampler.settings, workers=1)
    assert later.measured(requests).equals(before)
    assert later.photo_digest(requests[0]) != later.photo_digest(requests[1])
    assert later.photo_digest(requests[0]) == Picture(requests[0].photo()).digest
    with pytest.raises(pytest.fail.Exception):
        later.photo_digest(Request(given[1], 1))


class Blind:
    """Answers A, and looks at what it is shown."""

    layout, family, batch, settings = LAYOUTS["montage"], "blind", 4, {"blind": True}

    def ask(self, questions):
        self.seen = [[c.pictures(self.layout)[0].digest for c in question.candidates] for question in questions]
        return [Answer((0.9, 0.1), 1.0, 0.0) for _ in questions]


def test_a_judge_that_is_new_sees_the_pictures_and_one_on_record_needs_none(sampler, given, tmp_path):
    requests = [Request(given[0], seed, **SMALL) for seed in (1, 2)]
    sampler.measured(requests)
    shutil.rmtree(sampler.settings.cache_dir)
    answers, judge = Records(tmp_path / "answers.jsonl"), Blind()

    def asked():
        fresh = Sampler(sampler.settings, workers=1)
        pair = Pair(*(fresh.candidate(one, "montage") for one in requests))
        return judge_pairs(judge, [pair], answers, fresh.prepare)[0].outcome

    assert asked() == "flip"
    shown = sampler.measured(requests).montage.tolist()
    assert judge.seen == [shown, shown[::-1]]
    assert sampler.drawn_count == [2, 2], "both again, at once"
    shutil.rmtree(sampler.settings.cache_dir)
    assert asked() == "flip"
    assert sampler.drawn_count == [2, 2], "the answers are on record"


def test_the_true_mesh_scores_one_and_nothing_the_worst():
    item = furniture("test", 3)
    surface = outer_surface(item)
    perfect, nothing = measures(surface, surface), measures(surface, None)
    assert perfect["f_score"] > 0.999
    assert perfect["view"] < 0.01
    assert (nothing["f_score"], nothing["share"], sum(nothing["validity"])) == (0, 0, 0)
    assert (pictures(None, 8)[0] == 255).all()


def test_an_empty_structure_is_recorded_and_not_an_error(sampler, given, monkeypatch):
    pipeline = tiny_pipeline(0)
    pipeline.models["sparse_structure_decoder"].out_layer[-1].bias.data -= 1e6
    monkeypatch.setattr(drawing, "generator", lambda *_: pipeline)
    row = sampler.measured([Request(given[0], 1, **SMALL)]).iloc[0]
    assert row.f_score == row.share == 0
    assert sampler.drawn(Request(given[0], 1, **SMALL)).mesh is None


def test_latents_are_those_that_the_mesh_was_decoded_from(sampler, given):
    request = Request(given[0], 1, **SMALL)
    kept = (sampler.measured([request]), sampler.drawn(request))[1]
    (sample,) = tiny_pipeline(0).sample(request.photo(), request.noise, trajectory=True, formats=("mesh",), **SMALL)
    assert np.allclose(kept.slat, sample.latent.feats.numpy(), atol=1e-5)
    assert np.array_equal(kept.voxels, sample.latent.coords[:, 1:].numpy())
    assert np.allclose(kept.structure, sample.structure_trajectory[-1].numpy(), atol=1e-5)
    assert torch.equal(torch.from_numpy(kept.mesh.faces), sample.mesh.faces) or sampler.settings.fill_interior


def test_objects_that_are_trained_and_judged_on_are_refused(given):
    require_disjoint(given[:1], given[1:])
    with pytest.raises(BadInput, match="procedural/test/1"):
        require_disjoint(given, given[1:])


def test_a_missing_generator_is_named(tmp_path):
    with pytest.raises(BadInput, match="nowhere"):
        Sampler(load_profile("smoke", generator=str(tmp_path / "nowhere")))


def test_what_a_generator_in_bfloat16_draws_is_kept_and_measured(sampler, folder, given, monkeypatch):
    pipeline = load_pipeline(folder, dtype=torch.bfloat16)  # as on a GPU
    monkeypatch.setattr(drawing, "generator", lambda *_: pipeline)
    request = Request(given[0], 1, **SMALL)
    assert 0 <= sampler.measured([request]).f_score[0] <= 1
    kept = sampler.drawn(request)
    assert kept.slat.dtype == kept.structure.dtype == np.float32
    assert len(kept.mesh.faces)


def test_of_a_hub_id_the_files_that_are_read_are_downloaded_and_its_commit_is_its_digest(tmp_path, folder, monkeypatch):
    asked, snapshot = [], tmp_path / "snapshots/0123"

    def download(name, file):
        if name == "facebook/dinov2-with-registers-large":
            return str(tmp_path / encoder[0] / file)
        asked.append(file)
        (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
        args = {**tiny_args(), "image_cond_model": "dinov2_vitl14_reg"}
        args["models"] = {**args["models"], "slat_decoder_rf": "ckpts/unread"}
        content = json.dumps({"args": args}).encode() if file == "pipeline.json" else (folder / file).read_bytes()
        (snapshot / file).write_bytes(content)
        return str(snapshot / file)

    encoder = ["first"]
    monkeypatch.setattr("lib.trellis.checkpoints.hf_hub_download", download)
    made = Sampler(load_profile("smoke", generator="owner/generator"), workers=1)
    assert made.folder == snapshot
    stems = tiny_args()["models"].values()
    assert sorted(asked) == sorted(
        ["pipeline.json", *(f"{s}.{kind}" for s in stems for kind in ("json", "safetensors"))]
    )
    assert load_pipeline(made.folder).models.keys() == tiny_args()["models"].keys()
    assert find_generator("owner/generator") == (made.folder, made.weights)
    assert find_generator("other/generator")[1] != made.weights
    encoder[0] = "second"  # another commit of the image encoder
    assert find_generator("owner/generator")[1] != made.weights


def test_a_folder_counts_by_its_content_and_an_image_encoder_of_the_hub_by_its_commit(tmp_path, folder, monkeypatch):
    shutil.copytree(folder, tmp_path / "copy")
    assert find_generator(tmp_path / "copy")[1] == find_generator(folder)[1]
    path = tmp_path / "copy/pipeline.json"
    path.write_text(path.read_text().replace(tiny_args()["image_cond_model"], "dinov2_vitl14_reg"))
    commits = iter("abb")
    monkeypatch.setattr("lib.trellis.checkpoints.hf_hub_download", lambda name, file: f"/{name}/{next(commits)}/{file}")
    first, second, third = (find_generator(tmp_path / "copy")[1] for _ in range(3))
    assert first != second == third
