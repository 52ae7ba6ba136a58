"""A server with OpenAI's API (vLLM, SGLang and others): a chat completion, with patience and clear errors."""

import os
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential_jitter,
)

from lib.errors import BadInput

KEY = "OPENAI_API_KEY"
PATIENCE = 600.0  # seconds in which one call may be repeated
TOLD = ("root", "parent", "owned_by")  # of what a server tells of a model; its times and ids change at every start
LATER = "Mend the server and run again: what was answered is on record, only the rest is asked"


class Refused(BadInput):
    """The server will not answer this call, however often it is asked."""


class Server:
    """One model of a server, by its address `http://host:8000/v1#model`. Several threads may call it at once.

    timeout: seconds in which an answer has to come. attempts: at one question, if the server is busy, fails or is
    late; between them `pause` seconds, twice as long each time, with jitter, and no less than the server's
    Retry-After. The environment variable OPENAI_API_KEY is sent as bearer token. facts: what the server tells of itself
    and the model, for the records; no credentials.

    Raises BadInput where nothing answers at the address, the key is refused, or the model is not served.
    """

    def __init__(self, address: str, timeout: float = 120.0, attempts: int = 6, pause: float = 1.0):
        place, _, self.model = address.partition("#")
        try:
            url = httpx.URL(place)
        except httpx.InvalidURL as error:
            raise BadInput(address, f"is no address ({error})", "Write it as http://host:8000/v1#model") from error
        self.url = str(url.copy_with(userinfo=b"", query=None))
        key = os.environ.get(KEY)
        self.client = httpx.Client(
            auth=(url.username, url.password) if url.username else None,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=timeout,
            limits=httpx.Limits(max_connections=None),
        )
        self.retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            wait=_pause(pause),
            stop=stop_after_attempt(attempts) | stop_before_delay(PATIENCE),
            reraise=True,
        )
        self.facts = {"url": self.url} | self._model()

    def chat(self, **content) -> dict:
        """The first choice of a chat completion: `message`, and `logprobs` where asked for and offered.

        Raises Refused where the server does not take the question, BadInput for any other failure that lasts.
        """
        try:
            body = self.retrying(self._call, "POST", f"{self.url}/chat/completions", {"model": self.model, **content})
            return body["choices"][0]
        except (LookupError, TypeError) as error:
            raise self._no_api() from error
        except httpx.HTTPError as error:
            raise self._explained(error) from error

    def _model(self) -> dict:
        """What the server tells of the model, and its own version where it has one. Tried once."""
        try:
            served = {one["id"]: one for one in self._call("GET", f"{self.url}/models")["data"]}
            version = self.client.get(httpx.URL(self.url).copy_with(path="/version"))
        except (LookupError, TypeError) as error:
            raise self._no_api() from error
        except httpx.HTTPError as error:
            raise self._explained(error) from error
        if self.model not in served:
            problem = f"serves no model {self.model!r}" if self.model else "no model is named"
            raise BadInput(self.url, problem, f"Write {self.url}#MODEL with one of: {', '.join(served)}")
        told = {name: served[self.model].get(name) for name in TOLD}
        has_one = version.is_success and "json" in version.headers.get("Content-Type", "")
        return told | {"version": version.json().get("version") if has_one else None}

    def _call(self, method: str, url: str, content: dict | None = None) -> dict:
        response = self.client.request(method, url, json=content)
        response.raise_for_status()
        try:
            return response.json()
        except ValueError as error:
            raise self._no_api() from error

    def _no_api(self) -> BadInput:
        return BadInput(self.url, "does not speak OpenAI's API", "Write the address as http://host:8000/v1#model")

    def _explained(self, error: httpx.HTTPError) -> BadInput:
        if isinstance(error, httpx.TimeoutException):
            seconds = self.client.timeout.read
            return BadInput(self.url, f"gave no answer in {seconds:g} s", LATER)
        if not isinstance(error, httpx.HTTPStatusError):
            return BadInput(self.url, f"cannot be reached ({error})", "Start the server, or correct the address")
        status, said = error.response.status_code, " ".join(error.response.text.split())[:300]
        if status in (401, 403):
            sent = "refuses the key that was sent" if KEY in os.environ else "asks for a key"
            return BadInput(self.url, f"{sent} ({status})", f"Set the environment variable {KEY} to a valid key")
        if status in (404, 405):
            return self._no_api()
        if _may_pass(error):
            return BadInput(self.url, f"failed several times, the last time with {status} {said}", LATER)
        remedy = "Serve the model with room for such questions (context, images), or take another layout"
        return Refused(self.url, f"refuses the question: {status} {said}", remedy)


def _may_pass(error: BaseException) -> bool:
    """Whether asking again can help."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)


def _pause(first: float):
    backoff = wait_exponential_jitter(first, max=60, jitter=first)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception()
        asked = _retry_after(error.response) if isinstance(error, httpx.HTTPStatusError) else 0
        return max(asked, backoff(state))

    return wait


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the header Retry-After asks for, given as such or as a date; 0 without one."""
    text = response.headers.get("Retry-After", "0")
    if text.isdecimal():
        return float(text)
    try:
        return (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except ValueError:
        return 0
