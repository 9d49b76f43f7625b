"""Greedy answers to a batch of prompts."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerFast as Tokenizer

from curricle.engine.hardware import device
from curricle.engine.rendering import Messages, render_prompt


def greedy_answers(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    prompts: list[Messages],
    max_new_tokens: int,
    batch_size: int,
) -> list[str]:
    """Return one answer per prompt, in order, without the end-of-turn token.

    Prompts are batched by length and padded on the left.
    """
    tokens = [
        render_prompt(tokenizer, prompt, f"prompt {number}")
        for number, prompt in enumerate(prompts, start=1)
    ]
    order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    answers = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        width = max(len(tokens[index]) for index in chosen)
        pad = tokenizer.pad_token_id
        input_ids = torch.tensor([[pad] * (width - len(tokens[i])) + tokens[i] for i in chosen])
        mask = torch.tensor([[0] * (width - len(tokens[i])) + [1] * len(tokens[i]) for i in chosen])
        with torch.no_grad():
            produced = model.generate(
                input_ids=input_ids.to(device()),
                attention_mask=mask.to(device()),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                use_cache=True,
                eos_token_id=[end, tokenizer.eos_token_id],
                pad_token_id=pad,
            )
        for index, row in zip(chosen, produced[:, width:], strict=True):
            answers[index] = tokenizer.decode(row, skip_special_tokens=True)
    return answers
