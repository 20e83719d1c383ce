"""The tokenizer inside a GGUF's metadata, as tokenizer.json.

llama.cpp has two kinds that matter here. Byte-level BPE ("gpt2") joins by a list of merges, after
the text was split by one of its named patterns. SentencePiece ("llama") joins the pair whose whole
has the best score: the scores are turned into a list of merges, as transformers does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

from jobs.errors import ModelError
from jobs.model_store.gguf_splittings import DIGITS, SPLITTINGS, Splitting
from jobs.storage.files import write_atomic, write_json

# GGUF's types of tokens; the others are matched by the merges alone.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
SPACE = "▁"


@dataclass(frozen=True)
class _Vocabulary:
    """The tokens of a GGUF, by their ids, and what each is."""

    tokens: list[str]
    types: list[int]

    @property
    def ids(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.tokens)}

    def of(self, *types: int) -> list[str]:
        return [
            token for token, kind in zip(self.tokens, self.types, strict=False) if kind in types
        ]


def write_tokenizer(metadata: Mapping[str, Any], folder: Path, *, context: int) -> dict[str, int]:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` into ``folder``.

    Args:
        metadata: of the GGUF.
        folder: an existing folder.
        context: the longest sequence the model was trained on, in tokens.

    Returns:
        The ids of the BOS, EOS and padding tokens, as far as there are, as ``config.json`` names
        them.

    Raises:
        ModelError: the tokenizer is of another kind, or incomplete.
    """
    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if kind != "llama" and (kind != "gpt2" or pre not in SPLITTINGS):
        raise ModelError(
            f"The GGUF's tokenizer is {kind!r} with pre-tokenizer {pre!r}, expected 'llama', or "
            f"'gpt2' with one of {', '.join(SPLITTINGS)}."
        )
    try:
        vocabulary = _Vocabulary(
            metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"].tolist()
        )
        ids = _special_ids(metadata)
        named = {f"{name}_token": vocabulary.tokens[index] for name, index in ids.items()}
        begins = kind == "llama" or SPLITTINGS[str(pre)].begins
        begins = bool(metadata.get("tokenizer.ggml.add_bos_token", begins)) and "bos" in ids
        ends = bool(metadata.get("tokenizer.ggml.add_eos_token", False))
        if kind == "llama":
            tokenizer = _sentencepiece(metadata, vocabulary)
        else:
            merges: list[str] = metadata["tokenizer.ggml.merges"]
            tokenizer = _byte_level_bpe(vocabulary, merges, SPLITTINGS[str(pre)])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ModelError(f"The GGUF's tokenizer is incomplete: {error}.") from error
    _add_special(tokenizer, vocabulary)
    if begins or ends:
        around = {name: named[f"{name}_token"] for name in ("bos", "eos") if name in ids}
        template = f"{around['bos']} " * begins + "$A" + f" {around['eos']}" * ends
        tokenizer.post_processor = TemplateProcessing(
            single=template, special_tokens=[(token, ids[name]) for name, token in around.items()]
        )
    write_atomic(folder / "tokenizer.json", tokenizer.to_str(pretty=False).encode())
    chat = metadata.get("tokenizer.chat_template")
    write_json(
        folder / "tokenizer_config.json",
        {
            # The class that takes tokenizer.json as it is; those with an architecture's name
            # rebuild parts of it by their own rules.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": context,
            "clean_up_tokenization_spaces": False,
            **({"chat_template": chat} if chat else {}),
            **named,
        },
    )
    return {f"{name}_token_id": index for name, index in ids.items()}


def _special_ids(metadata: Mapping[str, Any]) -> dict[str, int]:
    """Return the ids of the special tokens that a GGUF names; it has to name the last one."""
    keys = {
        name: f"tokenizer.ggml.{key}_token_id"
        for name, key in (
            ("bos", "bos"),
            ("eos", "eos"),
            ("pad", "padding"),
        )
    }
    found = {name: int(metadata[key]) for name, key in keys.items() if key in metadata}
    if "eos" not in found:
        raise KeyError(keys["eos"])
    return found


def _byte_level_bpe(vocabulary: _Vocabulary, merges: list[str], splitting: Splitting) -> Tokenizer:
    ids = vocabulary.ids
    pairs: list[tuple[str, str]] = []
    for merge in merges:
        left, _, right = merge.partition(" ")
        if not {left, right, left + right} <= ids.keys():
            raise ModelError(f"The GGUF's merge {merge!r} does not join two tokens to a third.")
        pairs.append((left, right))
    tokenizer = Tokenizer(BPE(vocab=ids, merges=pairs, ignore_merges=splitting.whole))
    steps: list[Any] = []
    if splitting.pattern == DIGITS:
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    elif splitting.pattern is not None:
        steps.append(pre_tokenizers.Split(Regex(splitting.pattern), behavior="isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splitting.words))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    if splitting.composed:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(metadata: Mapping[str, Any], vocabulary: _Vocabulary) -> Tokenizer:
    scores: list[float] = metadata["tokenizer.ggml.scores"].tolist()
    unknown = vocabulary.of(UNKNOWN)
    tokenizer = Tokenizer(
        BPE(
            vocab=vocabulary.ids,
            merges=_merges(vocabulary, scores),
            unk_token=unknown[0] if unknown else None,
            fuse_unk=True,
            byte_fallback=bool(vocabulary.of(BYTE)),
        )
    )
    first = bool(metadata.get("tokenizer.ggml.add_space_prefix", True))
    marks: list[Any] = [normalizers.Prepend(SPACE)] if first else []
    tokenizer.normalizer = normalizers.Sequence([*marks, normalizers.Replace(" ", SPACE)])
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            *([decoders.Strip(content=" ", left=1, right=0)] if first else []),
        ]
    )
    return tokenizer


def _merges(vocabulary: _Vocabulary, scores: list[float]) -> list[tuple[str, str]]:
    """Return the pairs that make each token, the best token first."""
    ids = {
        token: index for token, index in vocabulary.ids.items() if vocabulary.types[index] == NORMAL
    }
    found: list[tuple[float, str, str]] = []
    for token, index in ids.items():
        pairs = [
            (token[:cut], token[cut:])
            for cut in range(1, len(token))
            if token[:cut] in ids and token[cut:] in ids
        ]
        pairs.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        found += [(scores[index], *pair) for pair in pairs]
    found.sort(key=lambda merge: (merge[0], len(merge[1]), len(merge[2])), reverse=True)
    return [(left, right) for _, left, right in found]


def _add_special(tokenizer: Tokenizer, vocabulary: _Vocabulary) -> None:
    special = vocabulary.of(CONTROL, *([UNKNOWN] if tokenizer.normalizer else []))
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special]
    )
    own = [AddedToken(token, normalized=False) for token in vocabulary.of(USER_DEFINED)]
    if own:
        tokenizer.add_tokens(own)
