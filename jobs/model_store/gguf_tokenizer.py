"""The byte-level BPE tokenizer inside a GGUF's metadata, as tokenizer.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

from jobs.errors import ModelError
from jobs.storage.files import write_atomic, write_json

CONTROL = 3  # GGUF's token type of special tokens; the others are matched by the merges alone


def write_tokenizer(metadata: dict[str, Any], folder: Path, *, context: int) -> dict[str, int]:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` into ``folder``.

    Args:
        metadata: of the GGUF.
        folder: an existing folder.
        context: the longest sequence the model was trained on, in tokens.

    Returns:
        The ids of the BOS, EOS and padding tokens, as ``config.json`` names them.

    Raises:
        ModelError: the tokenizer is of another kind, or incomplete.
    """
    kind = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if kind != ("gpt2", "smollm"):
        raise ModelError(
            f"The GGUF's tokenizer is {kind[0]!r} with pre-tokenizer {kind[1]!r}, "
            "expected 'gpt2' with 'smollm'."
        )
    try:
        tokens: list[str] = metadata["tokenizer.ggml.tokens"]
        merges: list[str] = metadata["tokenizer.ggml.merges"]
        types: list[int] = metadata["tokenizer.ggml.token_type"].tolist()
        template: str = metadata["tokenizer.chat_template"]
        ids = {
            name: int(metadata[f"tokenizer.ggml.{key}_token_id"])
            for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
        }
        named = {f"{name}_token": tokens[index] for name, index in ids.items()}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelError(f"The GGUF's tokenizer is incomplete: {error}.") from error
    special = [token for token, type_ in zip(tokens, types, strict=False) if type_ == CONTROL]
    tokenizer = _byte_level_bpe(tokens, merges, special)
    write_atomic(folder / "tokenizer.json", tokenizer.to_str(pretty=False).encode())
    write_json(
        folder / "tokenizer_config.json",
        {
            # The class that takes tokenizer.json as it is; those with an architecture's name
            # rebuild parts of it by their own rules.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": context,
            "clean_up_tokenization_spaces": False,
            "chat_template": template,
            **named,
        },
    )
    return {f"{name}_token_id": index for name, index in ids.items()}


def _byte_level_bpe(tokens: list[str], merges: list[str], special: list[str]) -> Tokenizer:
    vocabulary = {token: index for index, token in enumerate(tokens)}
    pairs: list[tuple[str, str]] = []
    for merge in merges:
        left, _, right = merge.partition(" ")
        if not {left, right, left + right} <= vocabulary.keys():
            raise ModelError(f"The GGUF's merge {merge!r} does not join two tokens to a third.")
        pairs.append((left, right))
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special]
    )
    return tokenizer
