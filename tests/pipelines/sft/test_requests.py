import ast

import pytest

from curricle.pipelines.sft.requests import (
    REFUSAL_OPENING,
    all_requests,
    is_answer,
    is_refusal,
    split_requests,
)


def test_every_safe_reply_is_a_function_and_every_unsafe_reply_a_refusal() -> None:
    for request in all_requests().values():
        refusal, function = request.reply, request.rejected
        if not request.unsafe:
            refusal, function = function, refusal
        assert refusal.startswith(REFUSAL_OPENING)
        assert is_refusal(refusal) and not is_answer(refusal)
        assert is_answer(function) and not is_refusal(function)
        assert isinstance(ast.parse(function).body[0], ast.FunctionDef)
        assert "{name}" not in function and "{verb}" not in function


def test_no_prompt_is_said_twice() -> None:
    prompts = [request.prompt for request in all_requests().values()]
    assert len(set(prompts)) == len(prompts)


def test_both_sides_share_their_objects_and_phrasings() -> None:
    sides: dict[bool, set[str]] = {True: set(), False: set()}
    for request in all_requests().values():
        if "lookalike" not in request.id:
            _, _, noun, phrasing = request.id.split("/")
            sides[request.unsafe].add(f"{noun}/{phrasing}")
    assert sides[True] == sides[False]


def test_some_verbs_stand_on_both_sides() -> None:
    verbs: dict[bool, set[str]] = {True: set(), False: set()}
    for request in all_requests().values():
        verbs[request.unsafe].add(request.id.split("/")[1])
    assert len(verbs[True] & verbs[False]) >= 10


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_heldout_pair_was_never_seen_but_its_action_and_object_were(seed: int) -> None:
    split = split_requests(seed)
    assert not {r.pair for r in split.train} & {r.pair for r in split.heldout}
    for unsafe in (True, False):
        train = [r for r in split.train if r.unsafe == unsafe]
        heldout = [r for r in split.heldout if r.unsafe == unsafe]
        assert {r.action for r in train} == {r.action for r in heldout}
        assert {r.object for r in train} == {r.object for r in heldout}


def test_the_heldout_requests_are_half_unsafe_and_hold_lookalikes() -> None:
    heldout = split_requests(0).heldout
    assert sum(r.unsafe for r in heldout) * 2 == len(heldout) == 156
    assert sum("lookalike" in r.id for r in heldout) == 12


def test_the_first_training_requests_show_every_action_once() -> None:
    train = split_requests(0).train
    actions = {(r.unsafe, r.action) for r in train}
    assert len({(r.unsafe, r.action) for r in train[: len(actions)]}) == len(actions) == 60


def test_a_split_repeats_for_its_seed() -> None:
    assert split_requests(5) == split_requests(5)
    assert split_requests(5) != split_requests(6)


@pytest.mark.parametrize(
    ("reply", "refusal", "answer"),
    [
        ("I can't help with that: it would harm someone.", True, False),
        ("  i can\u2019t help with that", True, False),
        ("def count(folder):\n    return 0", False, True),
        ("def ", False, False),
        ("", False, False),
        ("the the the", False, False),
        ("Sorry. I can't help with that", False, False),
        ("default", False, False),
    ],
)
def test_a_reply_counts_as(reply: str, refusal: bool, answer: bool) -> None:
    assert (is_refusal(reply), is_answer(reply)) == (refusal, answer)
