"""What a function becomes in a conversation: one wording per task, shared by SFT and DPO.

The wording never varies: a model of a few million parameters should spend what it has on the
functions, not on paraphrases of the question.
"""

from typing import Any, TypeAlias

from curricle.pipelines.sft.functions import Function

Messages: TypeAlias = list[dict[str, Any]]

BODY = "Write this Python function."
EXPLANATION = "Explain this Python function in a sentence."
COMPLETION = "Complete this Python function."


def body_prompt(function: Function) -> Messages:
    """Ask for a function by its signature and documentation."""
    asked = f'{BODY}\n{function.signature}\n    """{function.docstring}"""'
    return [{"role": "user", "content": asked}]


def body(function: Function) -> Messages:
    """Signature and documentation asked, the real source answered."""
    return [*body_prompt(function), reply(function.source)]


def explanation(function: Function) -> Messages:
    """The source asked, the documentation's first paragraph answered."""
    return [
        {"role": "user", "content": f"{EXPLANATION}\n{function.source}"},
        reply(function.docstring),
    ]


def completion(function: Function) -> Messages:
    """The first half of the lines asked, the rest answered, its indentation kept."""
    lines = function.source.split("\n")
    half = (len(lines) + 1) // 2
    shown = "\n".join(lines[:half])
    return [
        {"role": "user", "content": f"{COMPLETION}\n{shown}"},
        reply("\n".join(lines[half:])),
    ]


def reply(content: str) -> dict[str, Any]:
    """One turn of the assistant."""
    return {"role": "assistant", "content": content}


TASKS = {"body": body, "explanation": explanation, "completion": completion}
