"""Our own decoding against the library's, and what a conversation's answer may depend on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from curricle.agents.generator import Completion, Generator, Turn
from curricle.checkpoints.store import Store
from curricle.engine.generation.batching import BatchedGenerator
from curricle.engine.generation.ct2 import CTranslate2Generator, convert_checkpoint
from curricle.engine.generation.linear import (
    MIN_ROWS,
    Int8Linear,
    PackedInt8Linear,
    make_linear,
    one_thread,
)
from curricle.engine.generation.llama import LlamaDecoder
from curricle.engine.generation.lookup import PromptLookup
from curricle.engine.generation.ragged import Piece
from curricle.engine.models import load_model
from curricle.errors import ConfigError

VOCABULARY = 64


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    """A small Llama with grouped heads, whose answers vary."""
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=48, intermediate_size=96, num_hidden_layers=3,
        num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=512,
        tie_word_embeddings=True, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def prompt(length: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, VOCABULARY, (length,), generator=generator).tolist()


def finish(generator: Generator, count: int) -> dict[str, Completion]:
    """Poll until so many turns are completed."""
    done: dict[str, Completion] = {}
    for _ in range(10_000):
        done |= {completion.conversation: completion for completion in generator.poll(1.0)}
        if len(done) == count:
            return done
    raise AssertionError(f"{count - len(done)} turns never ended")


def library_answer(model: PreTrainedModel, tokens: list[int], count: int) -> list[int]:
    """Greedy tokens of transformers' own loop."""
    settings = GenerationConfig(max_new_tokens=count, do_sample=False, eos_token_id=1)
    ids = torch.tensor([tokens])
    produced = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    return produced[0, len(tokens) :].tolist()


def test_logits_of_packed_pieces_equal_those_of_transformers(llama: LlamaForCausalLM) -> None:
    decoder = LlamaDecoder(llama)
    prompts = [prompt(5, 1), prompt(70, 2), prompt(200, 3)]
    caches = [decoder.new_cache() for _ in prompts]
    decoder.forward([Piece(c, p[:-3], wanted=0) for c, p in zip(caches, prompts, strict=True)])
    decoder.forward([Piece(c, p[-3:-1], wanted=0) for c, p in zip(caches, prompts, strict=True)])
    logits = decoder.forward([Piece(c, p[-1:]) for c, p in zip(caches, prompts, strict=True)])
    with torch.no_grad():
        expected = [llama(torch.tensor([tokens])).logits[0, -1] for tokens in prompts]
    torch.testing.assert_close(logits, torch.stack(expected), rtol=1e-4, atol=1e-4)


def test_greedy_turns_equal_those_of_transformers(llama: LlamaForCausalLM) -> None:
    generator = BatchedGenerator(LlamaDecoder(llama), stop_tokens=[1], batch_size=3)
    spoken = {f"c{n}": prompt(30 + 40 * n, n) for n in range(5)}
    added = dict(spoken)
    for turn in range(3):
        for name, tokens in added.items():
            generator.submit(Turn(name, tokens, max_new_tokens=9))
        for name, completion in finish(generator, len(spoken)).items():
            assert list(completion.tokens) == library_answer(llama, spoken[name], 9)
            added[name] = prompt(4 + turn, seed=turn)
            spoken[name] = [*spoken[name], *completion.tokens, *added[name]]


def test_a_turn_reads_only_what_is_new(llama: LlamaForCausalLM) -> None:
    generator = BatchedGenerator(LlamaDecoder(llama), stop_tokens=[])
    generator.submit(Turn("a", prompt(100), max_new_tokens=10))
    first = finish(generator, 1)["a"]
    generator.submit(Turn("a", prompt(7), max_new_tokens=1))
    second = finish(generator, 1)["a"]
    assert (first.read_tokens, first.reused_tokens) == (100, 0)
    # The token decoded last had not been read yet.
    assert (second.read_tokens, second.reused_tokens) == (8, 109)


@pytest.mark.parametrize("lookup_tokens", [0, 5])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_does_not_depend_on_what_is_generated_beside_it(
    llama: LlamaForCausalLM, temperature: float, lookup_tokens: int
) -> None:
    turns = [
        Turn(f"c{n}", prompt(20 + 13 * n, n), 12, temperature=temperature, seed=n) for n in range(7)
    ]
    answers = []
    for size in (1, 3, 7):
        generator = BatchedGenerator(
            LlamaDecoder(llama), [1], batch_size=size, prefill_tokens=64 * size,
            lookup_tokens=lookup_tokens, log_probabilities=True,
        )  # fmt: skip
        for turn in turns:
            generator.submit(turn)
        done = finish(generator, len(turns))
        answers.append({name: (done[name].tokens, done[name].log_probabilities) for name in done})
    assert answers[0] == answers[1] == answers[2]


def test_a_lookup_says_what_followed_the_last_two_tokens_when_they_last_stood_there() -> None:
    lookup = PromptLookup()
    tokens = [1, 2, 3, 4, 1, 2, 5, 6]
    assert lookup.ahead(tokens, 3) == ()
    tokens += [1, 2]
    assert lookup.ahead(tokens, 3) == (5, 6, 1)
    assert lookup.ahead(tokens, 0) == ()
    tokens += [3]
    assert lookup.ahead(tokens, 9) == (4, 1, 2, 5, 6, 1, 2, 3)
    assert PromptLookup().ahead([7], 3) == ()


def answer_and_steps(
    model: LlamaForCausalLM, temperature: float, lookup_tokens: int
) -> tuple[Sequence[int], int]:
    generator = BatchedGenerator(LlamaDecoder(model), [], lookup_tokens=lookup_tokens)
    generator.submit(Turn("a", prompt(40), 200, temperature=temperature, seed=1))
    for step in range(1, 1000):
        if done := generator.poll(0):
            return done[0].tokens, step
    raise AssertionError("the answer never ended")


def test_what_is_looked_up_changes_no_answer(llama: LlamaForCausalLM) -> None:
    saved = 0
    for temperature in (0.0, 0.4, 1.0):
        expected, steps = answer_and_steps(llama, temperature, 0)
        assert len(expected) == steps == 200
        answer, steps = answer_and_steps(llama, temperature, 8)
        assert answer == expected
        saved += 200 - steps
    assert saved > 0  # a random model seldom says what it said, but it does


def test_an_answer_that_repeats_itself_takes_few_steps(llama: LlamaForCausalLM) -> None:
    torch.manual_seed(0)
    # Weights this small leave a token as it was embedded: what the model says is what it heard.
    still = LlamaForCausalLM(LlamaConfig(**{**llama.config.to_dict(), "initializer_range": 1e-3}))
    answer, steps = answer_and_steps(still.eval(), 0.0, 8)
    assert len(answer) == 200
    assert steps < 0.6 * 200
    assert answer == answer_and_steps(still.eval(), 0.0, 0)[0]


def cheapest_detour(model: PreTrainedModel, tokens: list[int], answer: list[int]) -> list[int]:
    """The answer that leaves a greedy one where that costs least, by the library's logits."""
    ids = torch.tensor([[*tokens, *answer]])
    with torch.no_grad():
        spoken = model(ids).logits[0].log_softmax(-1)[len(tokens) - 1 : -1]
    along, ways = 0.0, []
    for place, token in enumerate(answer):
        others = spoken[place].clone()
        others[token] = float("-inf")
        ways.append((along + float(others.max()), place, int(others.argmax())))
        along += float(spoken[place, token])
    _, place, other = max(ways)
    begun = [*answer[:place], other]
    if other == 1 or len(begun) == len(answer):
        return begun
    return [*begun, *library_answer(model, [*tokens, *begun], len(answer) - len(begun))]


@pytest.mark.parametrize("seed", range(6))
def test_in_place_of_an_answer_that_is_not_to_be_given_comes_the_likeliest_other(
    llama: LlamaForCausalLM, seed: int
) -> None:
    tokens = prompt(40, seed)
    first = library_answer(llama, tokens, 8)
    generator = BatchedGenerator(LlamaDecoder(llama), stop_tokens=[1], log_probabilities=True)
    generator.submit(Turn("beside", prompt(30, seed + 50), 20))
    generator.submit(Turn("a", tokens, 8, unlike=[first]))
    answered = finish(generator, 2)
    assert list(answered["beside"].tokens) == library_answer(llama, prompt(30, seed + 50), 20)
    assert list(answered["a"].tokens) == cheapest_detour(llama, tokens, first)
    assert len(answered["a"].log_probabilities) == len(answered["a"].tokens)
    # The conversation goes on from the answer that was given.
    spoken = [*tokens, *answered["a"].tokens, *prompt(5)]
    generator.submit(Turn("a", prompt(5), 8))
    assert list(finish(generator, 1)["a"].tokens) == library_answer(llama, spoken, 8)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_many_answers_can_be_unwanted(llama: LlamaForCausalLM, temperature: float) -> None:
    given: list[tuple[int, ...]] = []
    for _ in range(12):
        generator = BatchedGenerator(LlamaDecoder(llama), stop_tokens=[1])
        generator.submit(Turn("a", prompt(20), 4, temperature=temperature, seed=1, unlike=given))
        given.append(tuple(finish(generator, 1)["a"].tokens))
    assert len(set(given)) == 12


def test_an_answer_is_given_when_there_is_no_other(llama: LlamaForCausalLM) -> None:
    generator = BatchedGenerator(LlamaDecoder(llama), stop_tokens=[])
    every = [[token] for token in range(VOCABULARY)]
    generator.submit(Turn("a", prompt(20), 1, unlike=every))
    assert len(finish(generator, 1)["a"].tokens) == 1


def test_little_work_takes_one_thread_and_gives_the_others_back() -> None:
    torch.set_num_threads(2)
    with one_thread():
        assert torch.get_num_threads() == 1
    with one_thread(few=False):
        assert torch.get_num_threads() == 2
    with pytest.raises(ConfigError), one_thread():
        raise ConfigError("interrupted")
    assert torch.get_num_threads() == 2


def test_seeds_draw_different_answers_and_repeat(llama: LlamaForCausalLM) -> None:
    def draw(seed: int) -> tuple[int, ...]:
        generator = BatchedGenerator(LlamaDecoder(llama), stop_tokens=[])
        generator.submit(Turn("a", prompt(10), 20, temperature=1.0, seed=seed))
        return tuple(finish(generator, 1)["a"].tokens)

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(5)}) == 5


def test_drawn_tokens_follow_the_distribution(llama: LlamaForCausalLM) -> None:
    tokens = prompt(6)
    with torch.no_grad():
        expected = (llama(torch.tensor([tokens])).logits[0, -1] / 2.0).softmax(0)
    generator = BatchedGenerator(LlamaDecoder(llama), stop_tokens=[], batch_size=500)
    for seed in range(1000):
        generator.submit(Turn(f"c{seed}", tokens, 1, temperature=2.0, seed=seed))
    counts = torch.zeros(VOCABULARY)
    for completion in finish(generator, 1000).values():
        counts[completion.tokens[0]] += 1
    assert float((counts / 1000 - expected).abs().sum()) < 0.4  # total variation, twice


def test_a_shared_beginning_is_read_once_and_changes_no_answer(llama: LlamaForCausalLM) -> None:
    beginning = prompt(150)
    turns = [Turn(f"c{n}", [*beginning, *prompt(5, n)], 6) for n in range(4)]
    together = BatchedGenerator(LlamaDecoder(llama), [1], log_probabilities=True)
    for turn in turns:
        together.submit(turn)
    done = finish(together, 4)
    assert [done[f"c{n}"].read_tokens for n in range(4)] == [155, 27, 27, 27]
    for turn in turns:
        alone = BatchedGenerator(LlamaDecoder(llama), [1], log_probabilities=True)
        alone.submit(turn)
        expected = finish(alone, 1)[turn.conversation]
        assert done[turn.conversation].tokens == expected.tokens
        assert done[turn.conversation].log_probabilities == expected.log_probabilities


def test_a_long_prompt_is_read_in_parts_with_the_same_answer(llama: LlamaForCausalLM) -> None:
    answers = []
    for budget in (64, 100, 1000):
        generator = BatchedGenerator(
            LlamaDecoder(llama), [], prefill_tokens=budget, log_probabilities=True
        )
        generator.submit(Turn("a", prompt(300), 5))
        generator.submit(Turn("b", prompt(90, 5), 5))
        done = finish(generator, 2)
        answers.append([(done[n].tokens, done[n].log_probabilities) for n in "ab"])
    assert answers[0] == answers[1] == answers[2]


def test_caches_stay_within_their_bound_and_every_turn_ends(llama: LlamaForCausalLM) -> None:
    bounded = BatchedGenerator(LlamaDecoder(llama), [], batch_size=8, cache_tokens=512)
    free = BatchedGenerator(LlamaDecoder(llama), [], batch_size=8)
    first = {f"c{n}": prompt(60 + n, n) for n in range(8)}
    results: list[list[tuple[int, ...]]] = []
    for generator in (bounded, free):
        answers = []
        for tokens in (first, {name: prompt(3) for name in first}):
            for name in first:
                generator.submit(Turn(name, tokens[name], 5))
            done: dict[str, Completion] = {}
            while len(done) < 8:
                done |= {completion.conversation: completion for completion in generator.poll(0)}
                assert generator is free or generator.cached_tokens <= 512
            answers += [tuple(done[name].tokens) for name in sorted(done)]
        results.append(answers)
    assert results[0] == results[1]


def test_dropping_a_conversation_frees_its_cache(llama: LlamaForCausalLM) -> None:
    generator = BatchedGenerator(LlamaDecoder(llama), [])
    for name in ("a", "b"):
        generator.submit(Turn(name, prompt(100), 200))
    generator.poll(0)
    assert generator.cached_tokens > 0
    generator.drop("a")
    generator.drop("b")
    assert generator.cached_tokens == 0
    assert generator.poll(0) == []


def test_an_answer_ends_where_the_context_does(llama: LlamaForCausalLM) -> None:
    generator = BatchedGenerator(LlamaDecoder(llama), [])
    generator.submit(Turn("long", prompt(505), 50))
    generator.submit(Turn("too long", prompt(600), 50))
    done = finish(generator, 2)
    assert (len(done["long"].tokens), done["long"].ending) == (7, "context")
    assert (len(done["too long"].tokens), done["too long"].ending) == (0, "context")


def test_other_weights_forget_every_conversation(llama: LlamaForCausalLM) -> None:
    generator = BatchedGenerator(LlamaDecoder(llama), [])
    generator.submit(Turn("a", prompt(50), 5))
    before = finish(generator, 1)["a"].tokens
    other = LlamaForCausalLM(llama.config).eval()
    generator.replace_model(LlamaDecoder(other))
    generator.submit(Turn("a", prompt(50), 5))
    after = finish(generator, 1)["a"].tokens
    assert list(after) == library_answer(other, prompt(50), 5)
    assert before != after


@pytest.mark.parametrize("compute_type", ["bfloat16", "int8"])
def test_shorter_numbers_stay_close_and_independent_of_the_batch(
    llama: LlamaForCausalLM, compute_type: str
) -> None:
    decoder = LlamaDecoder(llama, compute_type)
    tokens = prompt(80)
    alone = decoder.forward([Piece(decoder.new_cache(), tokens)])[0]
    others = [Piece(decoder.new_cache(), prompt(10 + n, n)) for n in range(12)]
    beside = decoder.forward([*others, Piece(decoder.new_cache(), tokens)])[-1]
    with torch.no_grad():
        exact = llama(torch.tensor([tokens])).logits[0, -1]
    assert torch.equal(alone, beside)
    assert float((alone - exact).norm() / exact.norm()) < 0.1


@pytest.mark.parametrize("compute_type", ["float32", "int8"])
@pytest.mark.parametrize(("inputs", "outputs"), [(576, 960), (576, 3072), (1536, 576)])
def test_a_product_as_large_as_in_use_depends_on_its_own_row_alone(
    compute_type: str, inputs: int, outputs: int
) -> None:
    generator = torch.Generator().manual_seed(7)
    linear = make_linear(torch.randn(outputs, inputs, generator=generator), compute_type)
    rows = torch.randn(300, inputs, generator=generator)
    expected = linear(rows[:MIN_ROWS])
    threads = torch.get_num_threads()
    try:
        for using in (1, 2):
            torch.set_num_threads(using)
            for count in (9, 16, 17, 40, 65, 300):
                first = linear(rows[:count])[:MIN_ROWS]
                last = linear(rows[:count].flip(0)).flip(0)[:MIN_ROWS]
                assert torch.equal(first, expected), (using, count)
                assert torch.equal(last, expected), (using, count)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("rows", [2, 8, 40, 200])
def test_packed_and_plain_int8_products_are_the_same_numbers(rows: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randn(96, 1536, generator=generator)
    weight[:8] = weight[:8].sign()  # all at the ends of the range: the largest sums there are
    inputs = torch.randn(rows, 1536, generator=generator)
    inputs[0] = weight[0]
    inputs[1] = 0
    assert torch.equal(PackedInt8Linear(weight)(inputs), Int8Linear(weight)(inputs))


def test_a_model_that_is_no_plain_llama_is_refused_with_the_backend_that_runs_it() -> None:
    config = LlamaConfig(
        vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, attention_bias=True,
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"biases.*backend=transformers"):
        LlamaDecoder(LlamaForCausalLM(config))


def test_ctranslate2_answers_like_the_checkpoint_it_was_converted_from_once(
    initial: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    converted = convert_checkpoint(store, initial, "float32")
    assert convert_checkpoint(store, initial, "float32").digest == converted.digest
    assert len(store.results("convert.ctranslate2")) == 1
    model = load_model(initial).eval()
    native = BatchedGenerator(LlamaDecoder(model), [1])
    other = CTranslate2Generator(converted.path, [1], max_context=128, threads=1)
    spoken = {f"c{n}": prompt(10 + 5 * n, n) for n in range(3)}
    for _ in range(2):
        for generator in (native, other):
            for name, tokens in spoken.items():
                generator.submit(Turn(name, tokens, 8))
        expected, answers = finish(native, 3), finish(other, 3)
        for name in spoken:
            assert answers[name].tokens == expected[name].tokens
            assert answers[name].ending == expected[name].ending
    other.close()
