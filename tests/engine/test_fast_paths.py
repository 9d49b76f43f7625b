"""What is computed otherwise than by the libraries, and gives the same: attention, adapters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy

from curricle.agents.messages import ToolCall, assistant, tool_result, user
from curricle.config.training import LoraParameters
from curricle.engine.adapters import lora_job
from curricle.engine.document_attention import (
    DOCUMENTS,
    attend_within,
    document_blocks,
    use_document_attention,
)
from curricle.engine.llama_blocks import use_llama_blocks
from curricle.engine.low_rank import fuse_adapters
from curricle.engine.models import load_model, load_tokenizer
from curricle.engine.objectives import summed_loss
from curricle.engine.products import multiply, use_dense_products
from curricle.engine.renderers import ChatTemplateRenderer, renderer_for
from tests.engine.agent_conversations import TOOLS
from tests.engine.conftest import WORDS, MakeJob


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Two rows of three and of two documents."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(4, 500, (2, 24), generator=generator)
    positions = [[*range(9), *range(5), *range(10)], [*range(1), *range(23)]]
    labels = torch.where(torch.rand(ids.shape, generator=generator) < 0.4, ids, -100)
    return {"input_ids": ids, "labels": labels, "position_ids": torch.tensor(positions)}


def adapted(initial: Path) -> PeftModel:
    torch.manual_seed(3)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(load_model(initial), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first, where nothing reaches A
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def fused(initial: Path) -> PeftModel:
    model = adapted(initial)
    fuse_adapters(model)
    assert use_llama_blocks(model) == 9  # two attentions, two gated units, five norms
    return model


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same_training(
    plain: torch.nn.Module, ours: torch.nn.Module, batch: dict[str, torch.Tensor]
) -> None:
    models = (plain, ours)
    bare = [m.get_base_model() if isinstance(m, PeftModel) else m for m in models]
    losses = [summed_loss(model, batch) for model in bare]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(losses[1], losses[0])
    expected, got = map(gradients, models)
    assert expected and expected.keys() == got.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, atol=1e-4, rtol=1e-4)


class TestDocumentAttention:
    def test_blocks_are_the_documents(self, batch: dict[str, torch.Tensor]) -> None:
        assert document_blocks(batch["position_ids"]) == (
            (0, 0, 9), (0, 9, 14), (0, 14, 24), (1, 0, 1), (1, 1, 24)
        )  # fmt: skip

    def test_loss_and_gradients_are_those_of_the_masked_attention(
        self, initial: Path, batch: dict[str, torch.Tensor]
    ) -> None:
        found = []
        for by_document in (False, True):
            model = load_model(initial)
            if by_document:
                use_document_attention(model)
                assert model.config._attn_implementation == DOCUMENTS
            loss = summed_loss(model, batch)
            loss.backward()
            found.append((loss.detach(), gradients(model)))
        (loss, expected), (ours, got) = found
        torch.testing.assert_close(ours, loss)
        assert expected.keys() == got.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(got[name], gradient, atol=1e-5, rtol=1e-4)

    def test_plain_products_of_bf16_are_the_library_s_attention(self) -> None:
        generator = torch.Generator().manual_seed(2)
        query = torch.randn(2, 4, 24, 8, generator=generator)
        key, value = (torch.randn(2, 2, 24, 8, generator=generator) for _ in range(2))
        blocks = ((0, 0, 9), (0, 9, 24), (1, 0, 24))
        found = []
        for dtype in (torch.float32, torch.bfloat16):
            inputs = [t.detach().to(dtype).requires_grad_() for t in (query, key, value)]
            attended, _ = attend_within(torch.nn.Identity(), *inputs, None, blocks=blocks)
            attended.square().sum().backward()
            found.append([attended, *(tensor.grad for tensor in inputs)])
        for exact, rounded in zip(*found, strict=True):
            torch.testing.assert_close(rounded.float(), exact, atol=0.1, rtol=0.05)

    def test_it_leaves_no_trace_in_the_checkpoint(self, initial: Path, tmp_path: Path) -> None:
        model = load_model(initial)
        use_document_attention(model)
        model.save_pretrained(tmp_path)
        assert DOCUMENTS not in (tmp_path / "config.json").read_text()


class TestFusedAdapters:
    def test_loss_and_gradients_are_those_of_peft(
        self, initial: Path, batch: dict[str, torch.Tensor]
    ) -> None:
        plain, fused = adapted(initial), adapted(initial)
        assert fuse_adapters(fused) == 14  # seven in each of two layers
        assert_same_training(plain, fused, batch)
        assert all("lora_" in name for name in gradients(fused))

    @torch.no_grad()
    def test_a_disabled_adapter_in_bf16_and_after_merging_computes_as_peft_does(
        self, initial: Path, batch: dict[str, torch.Tensor]
    ) -> None:
        plain, fused = adapted(initial), adapted(initial)
        fuse_adapters(fused)
        ids = batch["input_ids"]
        with plain.disable_adapter(), fused.disable_adapter():
            assert torch.equal(plain(input_ids=ids).logits, fused(input_ids=ids).logits)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(plain(input_ids=ids).logits, fused(input_ids=ids).logits)
        merged = (model.merge_and_unload() for model in (plain, fused))
        first, second = (model(input_ids=ids).logits for model in merged)
        assert torch.equal(first, second)

    def test_dropout_keeps_peft_s_own_way(self, initial: Path) -> None:
        config = LoraConfig(r=4, lora_dropout=0.1, target_modules="all-linear")
        assert fuse_adapters(get_peft_model(load_model(initial), config)) == 0


class TestLlamaBlocks:
    def test_loss_and_gradients_are_those_of_the_library(
        self, initial: Path, batch: dict[str, torch.Tensor]
    ) -> None:
        assert_same_training(adapted(initial), fused(initial), batch)

    def test_in_bf16_they_are_as_near_to_fp32_as_the_library_s(
        self, initial: Path, batch: dict[str, torch.Tensor]
    ) -> None:
        exact, plain, ours = adapted(initial), adapted(initial), fused(initial)
        use_document_attention(ours.get_base_model())
        summed_loss(exact.get_base_model(), batch).backward()
        for model in (plain, ours):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = summed_loss(model.get_base_model(), batch)
            loss.backward()
        errors = []
        for model in (plain, ours):
            got = gradients(model)
            errors.append(
                [float((got[name] - g).norm() / g.norm()) for name, g in gradients(exact).items()]
            )
        assert 0 < max(errors[1]) < 0.1
        assert sum(errors[1]) < 1.1 * sum(errors[0])

    def test_an_adapter_on_some_layers_alone_leaves_the_others_to_the_library(
        self, initial: Path, batch: dict[str, torch.Tensor]
    ) -> None:
        torch.manual_seed(4)
        config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
        model = get_peft_model(load_model(initial), config)
        expected = summed_loss(model.get_base_model(), batch)
        fuse_adapters(model)
        use_llama_blocks(model)
        torch.testing.assert_close(summed_loss(model.get_base_model(), batch), expected)

    @pytest.mark.parametrize("attention", ["eager", "sdpa"])
    def test_they_serve_every_attention_its_dropout_and_a_cache(
        self, initial: Path, batch: dict[str, torch.Tensor], attention: str
    ) -> None:
        ids = batch["input_ids"]
        plain, ours = adapted(initial), fused(initial)
        for model in (plain, ours):
            model.get_base_model().set_attn_implementation(attention)
        expected = plain(input_ids=ids, use_cache=True)
        got = ours(input_ids=ids, use_cache=True)
        torch.testing.assert_close(got.logits, expected.logits, atol=1e-4, rtol=1e-4)
        assert got.past_key_values.get_seq_length() == ids.shape[1]
        without = ours(input_ids=ids, use_cache=False).logits
        torch.testing.assert_close(without, expected.logits, atol=1e-4, rtol=1e-4)
        for module in ours.train().modules():
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = 0.5
        assert not torch.allclose(ours(input_ids=ids, use_cache=False).logits, without, atol=1e-2)

    def test_what_trains_its_norms_keeps_them(self, initial: Path) -> None:
        assert use_llama_blocks(load_model(initial)) == 4  # attentions and gated units, idle


class TestDenseProducts:
    def test_loss_and_gradients_are_those_of_the_library(
        self, initial: Path, batch: dict[str, torch.Tensor]
    ) -> None:
        plain, direct = load_model(initial), load_model(initial)
        assert use_dense_products(direct) == 15  # the head, and seven in each of two layers
        assert_same_training(plain, direct, batch)

    def test_a_bias_and_a_transposed_weight(self) -> None:
        generator = torch.Generator().manual_seed(5)
        layer = torch.nn.Linear(6, 4)
        x = torch.randn(2, 3, 6, generator=generator, requires_grad=True)
        expected = layer(x)
        wanted = torch.autograd.grad(expected.square().sum(), [x, *layer.parameters()])
        assert use_dense_products(layer) == 1
        got = layer(x)
        torch.testing.assert_close(got, expected)
        found = torch.autograd.grad(got.square().sum(), [x, *layer.parameters()])
        for ours, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours, theirs)
        transposed = multiply(got, layer.weight.t())
        torch.testing.assert_close(transposed, got @ layer.weight)

    def test_in_bf16_and_without_rows_the_library_computes(self) -> None:
        plain = torch.nn.Linear(6, 4)
        direct = torch.nn.Linear(6, 4)
        direct.load_state_dict(plain.state_dict())
        use_dense_products(direct)
        x = torch.ones(3, 6)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert direct(x).dtype == torch.bfloat16
            assert torch.equal(direct(x), plain(x))
        assert direct(x[:0]).shape == (0, 4)


def test_an_adapter_learns_tool_calls_and_the_template_is_saved_with_it(
    initial: Path, tmp_path: Path, make_job: MakeJob
) -> None:
    rows = []
    for word in WORDS:
        call = ToolCall(name="edit", arguments={"old": f'x = "{word}"', "new": "x = 1"})
        turns = [user(f"Fix {word}."), assistant("", call), tool_result("edit", "ok")]
        rows.append({
            "messages": [m.to_row() for m in (*turns, assistant("ok"))],
            "tools": [t.function_schema() for t in TOOLS[2:]],
        })  # fmt: skip
    (data := tmp_path / "data").mkdir()
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parameters = LoraParameters(
        learning_rate=2e-2, batch_size=2, max_length=120, num_train_epochs=6, r=8,
        renderer="plain", precision="fp32",
    )  # fmt: skip
    job = make_job("lora", parameters.model_dump(mode="json"), start=initial, data=data)
    result = lora_job(job)
    assert result.effective["samples"] == len(WORDS)
    assert result.effective["attention"] == DOCUMENTS
    renderer = renderer_for(load_tokenizer(job.output), None, "next stage")
    assert isinstance(renderer, ChatTemplateRenderer)
    sample = renderer.render(rows[0]["messages"], rows[0]["tools"])
    losses = []
    for folder in (initial, job.output):
        with torch.no_grad():
            logits = load_model(folder)(input_ids=torch.tensor(sample.input_ids)[None]).logits[0]
        said = torch.tensor(sample.assistant_mask[1:])
        target = torch.tensor(sample.input_ids[1:])
        losses.append(float(cross_entropy(logits[:-1][said], target[said])))
    assert losses[1] < losses[0] - 0.1
