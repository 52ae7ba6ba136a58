"""Our judge against transformers' `pipeline("decision")` asked in both orders: same model, same prompt, same pairs.

    python benchmarks/judge.py [FOLDER or HUB ID ...]        default: both families at mini size, random weights

Prints verdicts a second of both and the largest difference of the probabilities, in float32; exits with 1 where ours is
not 3 times as fast or differs by more than 1e-3. Both start from the same images in memory, and take turns.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from PIL import Image
from transformers import pipeline
from transformers.decision import DecisionConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.judges.candidates import Candidate, Pair, Question
from lib.judges.engines import EncodeOnce, batches
from lib.judges.mini import IMAGE_SIZE, mini_internvl, mini_qwen, save_mini
from lib.judges.models import load_model
from lib.judges.processors import load_processor
from lib.judges.protocol import ORDERS
from lib.judges.vlm import VLMJudge

FASTER, CLOSE = 3, 1e-3


def make_pairs(objects: int, seed: int = 0) -> list[Pair]:
    """All six pairs of four candidates an object, as in arXiv 2606.18451; smooth random images."""
    rng = np.random.default_rng(seed)
    pairs = []
    for index in range(objects):
        coarse = rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
        images = [
            np.asarray(Image.fromarray(one).resize((IMAGE_SIZE,) * 2, Image.Resampling.BICUBIC)) for one in coarse
        ]
        candidates = [Candidate(f"{index}", {"montage": [image]}) for image in images]
        pairs += [Pair(a, b) for place, a in enumerate(candidates) for b in candidates[place + 1 :]]
    return pairs


def ours(judge: VLMJudge, pairs: list[Pair]) -> list[float]:
    """p(A) of every pair in both orders; nothing is remembered from an earlier call."""
    judge.engine = EncodeOnce(judge.model, judge.processor, judge.batch)
    questions = [Question(pair, judge.layout, order) for pair in pairs for order in ORDERS]
    return [answer.p[0] for batch in batches(questions, judge.batch) for answer in judge.ask(batch)]


def peers(decide, pairs: list[Pair]) -> list[float]:
    """The same by the pipeline, one request a question."""
    options = {"type": "choice", "criteria": {"first": None, "second": None}}
    answers = []
    for pair in pairs:
        for first, second in ((pair.a, pair.b), (pair.b, pair.a)):
            images = [Image.fromarray(one.images["montage"][0]) for one in (first, second)]
            request = {
                "state": ["first-image", "second-image"],
                "questions": {"better": options},
                "assets": dict(zip(("first-image", "second-image"), images, strict=True)),
            }
            answers.append(decide(request)["better"]["probabilities"]["first"])
    return answers


def peer(model: str, judge: VLMJudge):
    """The pipeline on its own copy of the model, reading our prompt: a template that ignores all but the images."""
    processor = load_processor(model, judge.model.config.model_type)
    text = processor.apply_chat_template(judge.prompts[0].messages(), tokenize=False, add_generation_prompt=True)
    config = DecisionConfig(chat_template="{% set images = state %}" + text, sanitize_control_tokens=False)
    loaded, _ = load_model(model, dtype="float32", device=judge.device.type)
    parts = {"tokenizer": processor.tokenizer, "processor": processor, "decision_config": config}
    return pipeline("decision", model=loaded, device=judge.device, **parts)


def compare(model: str, objects: int, repeats: int) -> bool:
    judge = VLMJudge(model, dtype="float32")
    decide = peer(model, judge)
    pairs = make_pairs(objects)
    difference = np.abs(np.subtract(ours(judge, pairs), peers(decide, pairs))).max()  # and warms both up
    seconds = {"ours": [], "pipeline": []}
    for _ in range(repeats):
        for name, ask, who in (("ours", ours, judge), ("pipeline", peers, decide)):
            pairs = make_pairs(objects)  # anew: candidates remember their digests
            started = perf_counter()
            ask(who, pairs)
            seconds[name].append(perf_counter() - started)
    rates = {name: len(pairs) / median(times) for name, times in seconds.items()}
    ratio = rates["ours"] / rates["pipeline"]
    print(
        f"{judge.identity['model']} ({judge.family}, {judge.device.type}): {rates['ours']:.1f} verdicts/s, "
        f"pipeline {rates['pipeline']:.1f}; {ratio:.1f} times; largest difference of p {difference:.1e}"
    )
    return ratio >= FASTER and difference <= CLOSE


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", help="folders or hub ids")
    parser.add_argument("--objects", type=int, default=8, help="objects, six pairs each")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        for make in () if options.models else (mini_qwen, mini_internvl):
            save_mini(Path(folder) / make.__name__, *make(seed=0))
        models = options.models or sorted(str(path) for path in Path(folder).iterdir())
        return 0 if all([compare(model, options.objects, options.repeats) for model in models]) else 1


if __name__ == "__main__":
    sys.exit(main())
