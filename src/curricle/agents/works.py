"""What a worker of the executor does for agents: a scripted expert plays a task or a question."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curricle.agents.answers import demonstrate_answer
from curricle.agents.experts import demonstrate_fix
from curricle.agents.prompts import sandboxed_run
from curricle.agents.questions import Question, QuestionKind
from curricle.agents.trajectories import CountTokens, Trajectory
from curricle.config.agents import ExpertParameters, QuestionParameters, SessionParameters
from curricle.execution.limits import Limits
from curricle.execution.task_worker import TaskWorker, open_worker
from curricle.languages.tasks import BugTask

OPEN = "curricle.agents.works:open_expert"
FIX = "curricle.agents.works:fix_item"
ANSWER = "curricle.agents.works:answer_item"

_TURN_TOKENS = 6
"""What a template puts around a turn."""


@dataclass(frozen=True)
class Expert:
    """What stays between the items of one worker."""

    worker: TaskWorker
    count_tokens: CountTokens


@contextmanager
def open_expert(settings: Mapping[str, Any]) -> Iterator[Expert]:
    """Set a worker up: as for bug tasks, and the folder of the model's `tokenizer`."""
    with open_worker(settings) as worker:
        yield Expert(worker, token_counter(Path(settings["tokenizer"])))


def fix_item(item: Mapping[str, Any], expert: Expert) -> dict[str, Any]:
    """Fix a bug task, perhaps `after` somebody's calls: `{"trajectory": ...}`, or why not."""
    worker = expert.worker
    limits = Limits(wall_s=item["run_wall_s"])
    prepared = worker.prepare(item, limits)
    run = sandboxed_run(worker.backend, prepared, worker.sandbox, limits)
    played = demonstrate_fix(
        BugTask.from_json(item["task"]), prepared, worker.backend, run, expert.count_tokens,
        seed=item["seed"], session=SessionParameters.model_validate(item["session"]),
        expert=ExpertParameters.model_validate(item["expert"]), after=item.get("after"),
    )  # fmt: skip
    if isinstance(played, Trajectory):
        return {"trajectory": played.to_json()}
    return {"dropped": played.reason, "operator": played.operator}


def answer_item(item: Mapping[str, Any], expert: Expert) -> dict[str, Any]:
    """Answer a question: `{"trajectory": ...}`, or `{"dropped": reason}`."""
    worker = expert.worker
    limits = Limits(wall_s=item["run_wall_s"])
    prepared = worker.prepare(item, limits)
    asked = item["question"]
    question = Question(
        **{
            **asked, "kind": QuestionKind(asked["kind"]),
            "failing": tuple(asked["failing"]), "passing": tuple(asked["passing"]),
        }
    )  # fmt: skip
    run = sandboxed_run(worker.backend, prepared, worker.sandbox, limits)
    played = demonstrate_answer(
        question, prepared, worker.backend, run, expert.count_tokens, seed=item["seed"],
        session=SessionParameters.model_validate(item["session"]),
        parameters=QuestionParameters.model_validate(item["questions"]),
    )  # fmt: skip
    if isinstance(played, Trajectory):
        return {"trajectory": played.to_json()}
    return {"dropped": played.reason, "operator": played.operator}


def token_counter(model: Path) -> CountTokens:
    """Count a conversation with a checkpoint's tokenizer.

    An estimate for budgets, a few tokens off what a renderer writes: each training stage counts
    again, exactly, what it takes.
    """
    from tokenizers import Tokenizer

    encode: Callable[[str], Any] = Tokenizer.from_file(str(model / "tokenizer.json")).encode

    def count(messages: Any, tools: Any) -> int:
        texts = [str(tool["function"]["name"]) + str(tool["function"]["description"])
                 for tool in tools]  # fmt: skip
        for message in messages:
            texts += [message.get("content", ""), message.get("thinking", "")]
            for call in message.get("tool_calls", ()):
                values = map(str, call["arguments"].values())
                texts += [call["name"], *map(str, call["arguments"]), *values]
        tokens = sum(len(encode(text).ids) for text in texts if text)
        return tokens + _TURN_TOKENS * (len(messages) + len(tools))

    return count
