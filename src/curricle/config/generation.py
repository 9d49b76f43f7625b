"""Parameters of generation: one model for every backend."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from curricle.config.base import Parameters

Backend = Literal["auto", "native", "transformers", "ctranslate2", "endpoint"]
ComputeType = Literal["auto", "float32", "bfloat16", "int8"]


class EndpointParameters(Parameters):
    """A server that speaks OpenAI's protocol.

    Attributes:
        url: the address up to and with ``/v1``.
        model: the model's name there.
        api: ``completions`` sends the rendered conversation as text; ``chat`` sends messages and
            tools, and the server renders.
        api_key_env: the environment variable that holds the key; empty for none.
        timeout_s: one request, all of it: a server that trickles is cut off too.
        retries: further attempts after a timeout, a refused connection, or a status 429 or 5xx.
        backoff_s: pause before the first retry; doubles.
        max_failures: so many requests in a row that failed for good end the run.
        max_response_bytes: a longer answer is an error.
    """

    url: str
    model: str
    api: Literal["completions", "chat"] = "chat"
    api_key_env: str = ""
    timeout_s: float = Field(default=120.0, gt=0)
    retries: int = Field(default=3, ge=0)
    backoff_s: float = Field(default=1.0, ge=0)
    max_failures: int = Field(default=8, ge=1)
    max_response_bytes: int = Field(default=4_000_000, ge=1000)


class GenerationParameters(Parameters):
    """How answers are generated.

    Attributes:
        backend: ``native`` is our own pass for Llama; ``transformers`` runs any model of the
            library; ``ctranslate2`` a converted copy; ``endpoint`` a server. ``auto`` is native
            where it can run the model, and transformers elsewhere.
        compute_type: arithmetic of the weights. ``auto`` follows the measured precision; ``int8``
            is the fastest on most processors, and a slightly different model.
        max_new_tokens: of one answer, the stop token among them.
        temperature: 0 is greedy.
        seed: of drawn answers.
        batch_size: conversations that generate at the same time.
        cache_tokens: tokens in all caches together. SmolLM2-135M takes 46 kB a token in float32,
            half of it in bfloat16: the default bounds it to 3 GB. Unused room costs nothing.
        prefill_tokens: tokens of prompts read in one step.
        lookup_tokens: tokens that are guessed from a conversation itself and read at once (prompt
            lookup decoding); what the model would not have said is dropped. 0 for one token a
            step. Native and transformers only.
        endpoint: the server; for ``backend: endpoint`` only.
    """

    backend: Backend = "auto"
    compute_type: ComputeType = "auto"
    max_new_tokens: int = Field(default=128, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    seed: int = 0
    batch_size: int = Field(default=16, ge=1)
    cache_tokens: int = Field(default=65_536, ge=128)
    prefill_tokens: int = Field(default=1024, ge=64)
    lookup_tokens: int = Field(default=8, ge=0)
    endpoint: EndpointParameters | None = None

    @model_validator(mode="after")
    def _endpoint_belongs_to_its_backend(self) -> GenerationParameters:
        if (self.backend == "endpoint") != (self.endpoint is not None):
            raise ValueError(
                "backend=endpoint needs generation.endpoint (url, model), and no other backend "
                "reads it: set both or neither"
            )
        return self


class RolloutParameters(Parameters):
    """What bounds the conversations of an agent, so that every one of them ends.

    Attributes:
        side_by_side: conversations that are open at the same time: some generate while the tools
            of others run.
        workers: tools that run at the same time.
        max_turns: answers of one conversation.
        max_tokens: tokens of one conversation, prompt and observations among them.
        observation_tokens: of one observation; a longer one is cut.
        avoid_repeats: an answer that changed nothing (a failed edit, a call that was refused, a
            file that was read) is not given again before something changed: the likeliest other
            one comes in its place. Servers cannot do this, which is logged.
        conversation_timeout_s: wall clock of one conversation.
        step_timeout_s: wall clock of one call into the environment, which has limits of its own:
            this one is for what should never happen.
    """

    side_by_side: int = Field(default=32, ge=1)
    workers: int = Field(default=2, ge=1)
    max_turns: int = Field(default=12, ge=1)
    max_tokens: int = Field(default=2048, ge=1)
    observation_tokens: int = Field(default=512, ge=32)
    avoid_repeats: bool = False
    conversation_timeout_s: float = Field(default=600.0, gt=0)
    step_timeout_s: float = Field(default=180.0, gt=0)
