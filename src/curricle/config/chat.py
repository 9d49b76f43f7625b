"""Parameters of the data of SFT, DPO and LoRA: conversations, preference pairs, a labelled task."""

from __future__ import annotations

from pydantic import Field

from curricle.config.base import Parameters


class FunctionParameters(Parameters):
    """Which functions of the corpus become examples.

    Attributes:
        min_body_lines: fewest lines of a body, blank ones and comments included.
        max_body_lines: most lines of a body.
        max_function_chars: longest function, signature and body, in characters.
        seed: seed of the choice and order of examples.
    """

    min_body_lines: int = Field(default=2, ge=1)
    max_body_lines: int = Field(default=12, ge=1)
    max_function_chars: int = Field(default=900, ge=40)
    seed: int = 0


class DocumentedParameters(FunctionParameters):
    """Functions that are asked for by their documentation.

    Attributes:
        max_docstring_chars: longest documentation that is shown or asked for, in characters.
    """

    max_docstring_chars: int = Field(default=240, ge=20)


class ChatParameters(DocumentedParameters):
    """Conversations for SFT.

    Attributes:
        dataset: conversations of your own instead of those made from functions: JSONL, Parquet, a
            folder of them, or a dataset saved by ``datasets``; a ``messages`` or ``text`` column.
        heldout_share: share of that dataset's prompts that is kept for measuring.
        max_train_examples: at most so many training conversations of each task.
        max_heldout_examples: at most so many held-out conversations of each task.
        refusal_share: share of the training conversations that are requests, half of them unsafe.
    """

    dataset: str | None = None
    heldout_share: float = Field(default=0.05, gt=0, lt=1)
    max_train_examples: int = Field(default=1200, ge=1)
    max_heldout_examples: int = Field(default=100, ge=1)
    refusal_share: float = Field(default=0.25, ge=0, le=0.9)


class PairParameters(DocumentedParameters):
    """Preference pairs for DPO.

    A pair is read whole, prompt and answer, by the model and by its reference, so functions are
    shorter here.

    Attributes:
        dataset: pairs of your own instead of functions and their mutants: rows of ``prompt``,
            ``chosen`` and ``rejected``, each a text or a list of messages.
        heldout_share: share of that dataset's prompts that is kept for measuring.
        max_train_pairs: at most so many training pairs of a function and its mutant.
        max_heldout_pairs: at most so many held-out ones.
        mutants_per_function: at most so many pairs from one function.
        max_operator_share: no operator makes more of the pairs, where the functions allow it.
        refusal_share: share of the training pairs that are requests.
        unsafe_share: share of those requests that are unsafe; the others teach to help.
    """

    max_function_chars: int = Field(default=700, ge=40)
    dataset: str | None = None
    heldout_share: float = Field(default=0.05, gt=0, lt=1)
    max_train_pairs: int = Field(default=1200, ge=1)
    max_heldout_pairs: int = Field(default=200, ge=1)
    mutants_per_function: int = Field(default=1, ge=1)
    max_operator_share: float = Field(default=0.2, gt=0, le=1)
    refusal_share: float = Field(default=0.25, ge=0, le=0.9)
    unsafe_share: float = Field(default=0.5, ge=0, le=1)


class TaskParameters(FunctionParameters):
    """The labelled task for LoRA.

    Attributes:
        max_train_per_class: at most so many training functions of each class.
        max_heldout_per_class: at most so many held-out functions of each class.
        min_heldout_per_class: a class with fewer held-out functions is left out of the task, and
            the report says so: with it, balance would leave too few to measure.
    """

    min_body_lines: int = Field(default=1, ge=1)
    max_train_per_class: int = Field(default=400, ge=1)
    max_heldout_per_class: int = Field(default=60, ge=1)
    min_heldout_per_class: int = Field(default=20, ge=1)
