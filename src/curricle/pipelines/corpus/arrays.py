"""Arrays from elsewhere: checked, and taken over as they are.

Whoever has tokenised already keeps what they have; the rules for documents and padding in such an
array are those of `packed`.
"""

import shutil
from pathlib import Path
from typing import Any

from curricle.config.corpus import ExternalArrays
from curricle.errors import DataError
from curricle.pipelines.corpus.packed import PackedArray
from curricle.pipelines.corpus.rows import segments_path
from curricle.pipelines.corpus.tokenizer import END_OF_TEXT, PAD, load_encoder


def take_arrays(folder: Path, arrays: ExternalArrays, tokenizer: Path) -> dict[str, Any]:
    """Copy arrays, and their sidecars, to `train_<L>.npy` and `heldout_<L>.npy`.

    Args:
        folder: where they go; exists.
        arrays: where they are.
        tokenizer: the folder of the tokenizer that made the ids.

    Returns:
        Rows and slots of each array.

    Raises:
        DataError: one is no array of token ids of this vocabulary, or two have the same length.
    """
    encoder = load_encoder(tokenizer)
    report: dict[str, Any] = {}
    named = [*(("train", path) for path in arrays.train), ("heldout", arrays.heldout)]
    for side, given in named:
        path = Path(given).expanduser()
        packed = PackedArray.open(
            path, eos_id=encoder.token_to_id(END_OF_TEXT), pad_id=encoder.token_to_id(PAD)
        )
        packed.check_vocabulary(encoder.get_vocab_size())
        name = f"{side}_{packed.seq_length}"
        if name in report:
            raise DataError(
                f"{path}: rows of {packed.seq_length} tokens, as in an array before it. "
                "Join arrays of one context length."
            )
        shutil.copyfile(path, folder / f"{name}.npy")
        if segments_path(path).is_file():
            shutil.copyfile(segments_path(path), segments_path(folder / f"{name}.npy"))
        report[name] = {"rows": len(packed), "slots": len(packed) * packed.seq_length}
    return report
