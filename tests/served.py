"""A real server on the loopback interface: a judge behind OpenAI's API, which can be told to misbehave."""

import base64
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import numpy as np
import torch
from PIL import Image

from lib.judges.vlm import VLMJudge


def brighter(messages: list, images: list) -> dict[str, float]:
    """Prefers the brighter of the last two images; most of the rest goes to prose."""
    first, second = (np.asarray(image, float).mean() for image in images[-2:])
    p = 1 / (1 + np.exp((second - first) / 10))
    shares = {"A": 0.6 * p, "B": 0.6 * (1 - p), " A": 0.3 * p, "B ": 0.3 * (1 - p), "The": 0.1}
    return {token: float(np.log(share)) for token, share in sorted(shares.items(), key=lambda one: -one[1])}


def by_model(judge: VLMJudge) -> Callable[[list, list], dict]:
    """The judge's own model, by its chat template and the stock call on the question as it came."""
    alone, processor = threading.Lock(), judge.processor

    @torch.inference_mode()
    def tokens(messages, images):
        torch.set_num_threads(1)  # a thread of the server's starts with the machine's number
        shown = iter(images)
        filled = [
            turn
            | {
                "content": [
                    {"type": "image", "image": next(shown)} if part["type"] == "image_url" else part
                    for part in turn["content"]
                ]
            }
            for turn in messages
        ]
        with alone:
            inputs = processor.apply_chat_template(
                filled, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
            )
            values = judge.model(**inputs).logits[0, -1].float().log_softmax(-1)
        order = values.argsort(descending=True)
        return dict(zip(processor.tokenizer.convert_ids_to_tokens(order), values[order].tolist(), strict=True))

    return tokens


@dataclass
class Reply:
    """What a question gets instead of the model's answer: a status, or prose, or both after some seconds."""

    status: int = 200
    text: str | None = None
    headers: dict = field(default_factory=dict)
    seconds: float = 0.0


class JudgeServer(ThreadingHTTPServer):
    """Serves one model; used as a context. address: what a ServedJudge is given.

    tokens: from the messages and images of a question, the log probability of each token, the likeliest first.
    misbehave: from a question's number (from 1) and its images, what it gets instead of an answer, None for nothing.
    most: log probabilities it gives at a time; asked for more it refuses (`refuses`) or leaves all out. images: how
    many it takes in one question. key: bearer token that it asks for. asked: the bodies of all questions so far.
    at_once: the largest number of questions that it had to answer at one time.
    """

    daemon_threads = True

    def __init__(self, tokens: Callable[[list, list], dict], name: str = "judge_y", root: str = "org/InternVL-mini"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.tokens, self.name, self.root = tokens, name, root
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.address = f"{self.url}#{name}"
        self.misbehave: Callable[[int, list], Reply | None] = lambda number, images: None
        self.most, self.refuses, self.images, self.key = 20, True, 9, None
        self.asked, self.times, self.here, self.at_once = [], [], 0, 0
        self.lock = threading.Lock()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """A client that gave up waiting is no error of the server's."""

    def answer(self, body: dict) -> tuple[int, dict, dict]:
        """Status, content and headers for a question."""
        images = [_image(part) for turn in body["messages"] for part in turn["content"] if part["type"] == "image_url"]
        with self.lock:
            self.asked.append(body)
            self.times.append(time.monotonic())
            number = len(self.asked)
        reply = self.misbehave(number, images) or Reply()
        time.sleep(reply.seconds)
        if reply.status != 200:
            return reply.status, {"error": {"message": "told to"}}, reply.headers
        if len(images) > self.images:
            return 400, {"error": {"message": f"at most {self.images} images"}}, {}
        wanted = body.get("top_logprobs", 0)
        if wanted > self.most and self.refuses:
            return 400, {"error": {"message": f"at most {self.most} top_logprobs"}}, {}
        tokens = {reply.text: 0.0} if reply.text else self.tokens(body["messages"], images)
        text, *_ = tokens
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": None}
        if 0 < wanted <= self.most:
            top = [{"token": token, "logprob": value} for token, value in list(tokens.items())[:wanted]]
            choice["logprobs"] = {"content": [top[0] | {"top_logprobs": top}]}
        return 200, {"object": "chat.completion", "model": self.name, "choices": [choice]}, {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Keeps the tests' output clean."""

    def do_GET(self):
        model = {"id": self.server.name, "object": "model", "created": int(time.time()), "root": self.server.root}
        pages = {"/v1/models": {"data": [model | {"owned_by": "test"}]}, "/version": {"version": "1.2.3"}}
        page = pages.get(self.path)
        self._send(*((200, page, {}) if page else (404, {"detail": "Not Found"}, {})))

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.here += 1
            server.at_once = max(server.at_once, server.here)
        try:
            answer = server.answer(body)
        finally:
            with server.lock:
                server.here -= 1
        self._send(*answer)

    def _send(self, status: int, content: dict, headers: dict):
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            status, content = 401, {"error": {"message": "invalid api key"}}
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _image(part: dict) -> Image.Image:
    kind, data = part["image_url"]["url"].split(",")
    assert kind == "data:image/png;base64"
    return Image.open(BytesIO(base64.b64decode(data))).convert("RGB")
