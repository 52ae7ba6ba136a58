"""The code path of the profile `paper`, by its own hub ids, on folders as published with narrow random models."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hub_folders import DINOV2, INTERNVL, NETWORKS, QWEN, TRELLIS, write_future, write_models
from safetensors import safe_open
from test_trellis_golden import KEYS
from tiny_study import decided

from lib.data.datasets import open_dataset
from lib.data.photos import render_photo
from lib.errors import BadInput
from lib.judges.candidates import ORDERS, Candidate, Pair, Question
from lib.judges.prompts import LAYOUTS, WORDINGS
from lib.judges.protocol import judge_pairs
from lib.judges.vlm import VLMJudge
from lib.profiles import load_profile
from lib.study import calibration, failure_tables, failures, flips, lessons, pairs, protocol, win_rates
from lib.study.adaptation import Study
from lib.study.cells import Cell
from lib.study.generated import generated_subjects, make_cases
from lib.study.records import Records
from lib.study.samples import Request, Sampler
from lib.trellis.pipeline import load_pipeline

PREFIXES = {
    QWEN: {"lm_head", "model.embed_tokens", "model.layers", "model.norm"}
    | {"visual.blocks", "visual.merger", "visual.patch_embed"},
    INTERNVL: {"language_model.lm_head", "language_model.model", "multi_modal_projector.layer_norm"}
    | {"multi_modal_projector.linear_1", "multi_modal_projector.linear_2", "vision_tower.embeddings"}
    | {"vision_tower.encoder"},
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The snapshots by hub id, in the only cache that there is, without a network."""
    cache = tmp_path_factory.mktemp("hub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield write_models(cache)


@pytest.fixture(scope="module")
def future(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_future(folder / "3D-FUTURE-model", 3)
    return folder


def tensors(path):
    """Shape and type of each tensor of a safetensors file."""
    with safe_open(path, "pt") as file:
        return {key: (file.get_slice(key).get_shape(), file.get_slice(key).get_dtype()) for key in file.offset_keys()}


@pytest.mark.parametrize("name", PREFIXES)
def test_the_judges_weights_are_sharded_and_named_as_published(hub, name):
    places = json.loads((hub[name] / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(places.values())) > 3
    assert {".".join(key.removesuffix(".weight").split(".")[:2]) for key in places} == PREFIXES[name]
    assert all(kind == "BF16" for file in set(places.values()) for _, kind in tensors(hub[name] / file).values())


@pytest.mark.skipif(not KEYS.is_file(), reason=f"no {KEYS}")
def test_the_generators_tensors_have_the_published_names_and_types(hub):
    published = json.loads(KEYS.read_text())
    for stem, _, args in NETWORKS.values():
        found = tensors(hub[TRELLIS] / f"ckpts/{stem}.safetensors")
        wanted = {
            key: {"float16": "F16", "float32": "F32"}[kind]
            for key, (_, kind) in published[stem]["keys"].items()
            if not re.match(r"blocks\.(\d+)", key) or int(key.split(".")[1]) < args.get("num_blocks", 99)
        }
        assert {key: kind for key, (_, kind) in found.items()} == wanted, stem
        assert set(args) <= set(published[stem]["args"])


@pytest.mark.parametrize(
    ("name", "tokens", "head"), [(QWEN, 1225, "lm_head"), (INTERNVL, 256, "language_model.lm_head")]
)
def test_a_judge_opens_by_its_hub_id_and_answers_in_both_orders_at_full_resolution(hub, name, tokens, head):
    judge = VLMJudge(name, dtype="bfloat16", batch=2)
    assert (judge.identity["model"], judge.identity["revision"]) == (name, hub[name].name)
    places = json.loads((hub[name] / "model.safetensors.index.json").read_text())["weight_map"]
    with safe_open(hub[name] / places[f"{head}.weight"], "pt") as file:  # and not the embeddings
        assert torch.equal(judge.model.lm_head.weight, file.get_tensor(f"{head}.weight"))
    rng = np.random.default_rng(0)
    montages = rng.integers(256, size=(2, 1024, 1024, 3), dtype=np.uint8)
    a, b = (Candidate("chair", {"montage": [montage]}) for montage in montages)
    layout = LAYOUTS["montage"]
    answers = judge.ask([Question(Pair(*both), layout, order) for both in ((a, b), (a, a)) for order in ORDERS])
    assert {len(features) for features in judge.engine.features.values()} == {tokens}
    assert all(0 < answer.p[0] < 1 and 0 < answer.mass < 1 for answer in answers)
    assert answers[0].p != answers[1].p
    assert answers[2].p == answers[3].p  # nothing but the order of the same picture


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_generator_opens_by_its_hub_id_and_makes_a_mesh(hub, future, dtype):
    dataset = open_dataset(future)
    photo = render_photo(dataset.load(dataset.ids[0]).mesh, 128)
    pipeline = load_pipeline(TRELLIS, dtype=dtype)
    assert pipeline.encode([photo]).shape[1] == 1374  # 37 x 37 patches, 4 registers, CLS
    (sample,) = pipeline.sample(photo, 0, steps=1)
    assert 20 < len(sample.latent.coords) < 5000
    assert sample.latent.coords[:, 1:].max() > 32
    assert len(sample.mesh.faces) > 1000
    assert sample.mesh.vertices.isfinite().all()
    assert len(sample.gaussians.means) == 32 * len(sample.latent.coords)


def test_the_dataset_is_read_as_3d_future(future):
    dataset = open_dataset(future)
    assert (dataset.layout, len(list(dataset)), dataset.skipped) == ("3D-FUTURE", 3, [])
    assert set(dataset.categories.values()) == {"chair", "table", "sofa"}
    chair = dataset.load(dataset.ids[0]).mesh
    assert chair.extents.max() == pytest.approx(1)
    assert len(np.unique(chair.visual.vertex_colors, axis=0)) > 100  # of the atlas
    assert dataset.image(dataset.ids[0]).name == "image.jpg"


@pytest.fixture
def settings(hub, future, tmp_path, monkeypatch):
    """The profile `paper` on sizes of `smoke` and the folder of data, its results in a temporary folder."""
    monkeypatch.setattr("lib.profiles.ROOT", tmp_path)
    sizes = {"n_objects": 1, "n_judged": 2, "n_evaluated": 1, "n_splats": 2000, "tile": 56, "picture": 64, "photo": 128}
    settings = load_profile("paper", **sizes, data_dir=str(future))
    assert (settings.generator, settings.judge_x, settings.judge_y) == (TRELLIS, QWEN, INTERNVL)
    return settings


def test_samples_of_the_profile_paper_reach_its_judges(settings, tmp_path):
    (subject,) = generated_subjects(settings)
    sampler = Sampler(settings, workers=1)
    base, small = Request(subject, 0, steps=2), Request(subject, 0, steps=1, guidance=0.0)
    cases, truth = make_cases(sampler, [("two budgets", base, small)])
    assert truth.f_score_a.between(0, 1).all()
    assert len(sampler.drawn(base).structure) == 8
    answers = pairs.ask(pairs.load_judges(settings), cases, Records(tmp_path / "answers.jsonl"))
    assert list(answers.judge) == ["X", "Y"]
    assert answers[["p_ab", "p_ba"]].stack().between(0, 1).all()


def test_notebooks_01_to_03_run_on_the_profile_paper(settings, tmp_path):
    records = Records(tmp_path / "answers.jsonl")
    judges = pairs.load_judges(settings)

    objects, skipped = protocol.gather_objects(settings)
    assert (len(objects), skipped) == (1, [])
    shown = protocol.damage(objects, 0.4, settings, ["face_drop"])
    pair = protocol.intact_against(*shown[0], settings)
    verdicts = {name: judge_pairs(judge, [pair], records)[0] for name, judge in judges.items()}
    assert len(protocol.answer_table(pair, verdicts)) == 4
    assert set(protocol.damage_summary(protocol.damage_table(shown, settings)).kind) == {"intact", "face_drop"}

    several, _ = pairs.judged_objects(load_profile("smoke"))
    plans = failures.plan(several, settings.seed)[:1]
    answers = pairs.ask(judges, failures.cases(plans, settings, workers=1), records)
    trained = failure_tables.trained_shares(judges)
    assert set(failure_tables.failure_table(answers, trained, settings.seed).judge) == {"X", "Y"}
    failure_tables.differences(answers, trained, settings.seed)
    failure_tables.beyond_novelty(answers, settings.seed)

    objects, _ = pairs.judged_objects(settings)
    cases = pairs.cases(pairs.controls(objects, settings, workers=1))
    answers = pairs.ask(judges, cases, records)
    assert len(answers) == 2 * len(cases) == 2 * 2 * 13
    assert answers.p_a.between(0, 1).all()
    others = {"three wordings": {"wordings": tuple(WORDINGS)}, "tie label": {"tie": True}}
    asked = {way: pairs.ask(judges, cases[:4], records, **how) for way, how in others.items()}
    first = {"one wording": answers.groupby("judge").head(4)}
    tables = [calibration.controls_table, calibration.by_gap, calibration.brier_table, calibration.reliability_table]
    tables += [calibration.position_table, calibration.agreement_table, flips.flip_table, flips.first_by_gap]
    assert all(len(table(answers, settings.seed)) for table in tables)
    assert len(calibration.options_table(first | asked, settings.seed))
    assert set(flips.position_model(answers).judge) == {"X", "Y"}


def test_the_study_runs_on_the_profile_paper(settings, monkeypatch):
    """Notebooks 04 and 05, one step for each of the paper's: random judges flip, so what X says is decided here."""
    monkeypatch.setattr(Request, "budget", property(lambda request: {"steps": 1}))
    monkeypatch.setattr(lessons, "label", decided)
    monkeypatch.setattr(lessons, "HELD", 2)
    study = Study.open(replace(settings, n_train=2, train_steps=1), workers=1)
    cells = [Cell("dpo_0.1"), Cell("sft_clean", "severe"), Cell("conditioner_repair", "severe")]
    answers, truth = study.score(study.cell_pairs(cells) + study.control_pairs(cells))
    table = win_rates.win_rates(answers, truth, cells, study.seconds(cells), settings.seed)
    assert table.n.tolist() == [1, 1, 1]
    assert (table.seconds > 0).all()
    assert study.training(cells).stage.tolist() == ["slat", "slat", "condition"]
    assert {one.item.id for one in study.school.subjects}.isdisjoint(one.item.id for one in study.subjects)


@pytest.mark.parametrize("name", [QWEN, INTERNVL])
def test_a_judge_with_a_shard_missing_is_refused_by_name(hub, tmp_path, name):
    shutil.copytree(hub[name], tmp_path / "judge")
    (tmp_path / "judge/model-00003-of-00008.safetensors").unlink()
    with pytest.raises(BadInput, match=r"judge: no judge can be loaded.*model-00003-of-00008"):
        VLMJudge(tmp_path / "judge")


def test_what_is_not_in_the_cache_is_named_with_what_to_do(hub, future, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BadInput, match=f"(?s){QWEN}.*hub id"):
        VLMJudge(QWEN)
    with pytest.raises(BadInput, match=f"{TRELLIS}.*pipeline.json"):
        load_pipeline(TRELLIS)
    shutil.copytree(hub[TRELLIS], tmp_path / "trellis")
    dataset = open_dataset(future)
    photo = render_photo(dataset.load(dataset.ids[0]).mesh, 128)
    with pytest.raises(BadInput, match=DINOV2):
        load_pipeline(tmp_path / "trellis").encode([photo])
