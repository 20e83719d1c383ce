"""The tokenizer inside a GGUF.

llama.cpp has two kinds that matter here. Byte-level BPE ("gpt2") joins by a list of merges, after
the text was split by one of its named patterns. SentencePiece ("llama") joins the pair whose whole
has the best score; a tokenizer.json made of such a model lists its merges in that order, so a
score is what the place in that list says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, SpecialVocab, TokenType

from jobs.errors import ModelError
from jobs.model_store.gguf_splittings import DIGITS, SPLITTINGS

SPACE = "▁"
# Of tokens that are never joined from others.
NEVER_JOINED = -1000.0


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as a GGUF holds it.

    Attributes:
        model: ``gpt2`` or ``llama``.
        pattern: by which text is split first; llama.cpp's name.
        tokens: by their ids.
        kinds: what each is.
        scores: of each, where ``model`` is ``llama``.
        space_first: a space is put before a text.
        begins, ends: whether its first token comes before every text, its last behind it.
    """

    model: str
    pattern: str
    tokens: list[str]
    kinds: list[TokenType]
    scores: list[float] | None
    space_first: bool
    begins: bool
    ends: bool


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """Read ``tokenizer.json``.

    Args:
        folder: of the model.
        size: the rows of its embedding; ids without a token are filled up.

    Raises:
        ModelError: it is none that llama.cpp knows.
    """
    try:
        found: Any = json.loads((folder / "tokenizer.json").read_bytes())
        model, added = found["model"], found["added_tokens"]
        if model["type"] != "BPE":
            raise ModelError(_refused(f"it is a {model['type']} tokenizer, not BPE"))
        vocabulary = {**model["vocab"], **{token["content"]: token["id"] for token in added}}
        if (most := max(vocabulary.values())) >= size:
            raise ModelError(_refused(f"it has a token {most}, and the model {size} of them"))
        sentencepiece = _is_sentencepiece(found)
        pattern = "default" if sentencepiece else _pattern(found)
        template = list(_template(found))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(_refused(f"tokenizer.json cannot be read: {error!r}")) from error
    words = {index: token for token, index in vocabulary.items()}
    kinds = _kinds(model, added, size, words)
    own = {token["id"] for token in added}
    tokens = [_written(words, index, own, sentencepiece=sentencepiece) for index in range(size)]
    return Vocabulary(
        model="llama" if sentencepiece else "gpt2",
        pattern=pattern,
        tokens=tokens,
        kinds=kinds,
        scores=_scores(model["merges"], tokens) if sentencepiece else None,
        space_first=sentencepiece and _space_first(found),
        begins=bool(template) and template[0],
        ends=bool(template) and template[-1],
    )


def write_vocabulary(writer: GGUFWriter, folder: Path, found: Vocabulary) -> None:
    """Write the tokenizer of a model's folder with its special tokens and its chat template."""
    writer.add_tokenizer_model(found.model)
    writer.add_tokenizer_pre(found.pattern)
    writer.add_token_list(found.tokens)
    if found.scores is not None:
        writer.add_token_scores(found.scores)
        writer.add_add_space_prefix(found.space_first)
    writer.add_token_types(found.kinds)
    special = SpecialVocab(folder, load_merges=found.model == "gpt2", n_vocab=len(found.tokens))
    # What tokenizer.json does is what is trained on, whatever a setting beside it says.
    special.add_special_token |= {"bos": found.begins, "eos": found.ends}
    special.add_to_gguf(writer, quiet=True)


def _refused(why: str) -> str:
    return f"No GGUF can be written with this tokenizer: {why}."


def _parts(found: Any) -> list[Any]:
    """Return the steps by which a text is split, one after the other."""
    if found is None:
        return []
    return list(found["pretokenizers"]) if found["type"] == "Sequence" else [found]


def _steps(found: Any) -> list[Any]:
    """Return the steps by which a text is changed before it is split."""
    if found is None:
        return []
    return list(found["normalizers"]) if found["type"] == "Sequence" else [found]


def _is_sentencepiece(found: Mapping[str, Any]) -> bool:
    """Tell whether spaces are marked by SentencePiece's sign, rather than bytes by letters."""
    replaced = any(
        step["type"] == "Replace" and step["content"] == SPACE
        for step in _steps(found.get("normalizer"))
    )
    parts = _parts(found.get("pre_tokenizer"))
    return replaced or any(part["type"] == "Metaspace" for part in parts)


def _space_first(found: Mapping[str, Any]) -> bool:
    prepended = any(step["type"] == "Prepend" for step in _steps(found.get("normalizer")))
    return prepended or any(
        part["type"] == "Metaspace" and part.get("prepend_scheme", "always") != "never"
        for part in _parts(found.get("pre_tokenizer"))
    )


def _pattern(found: Mapping[str, Any]) -> str:
    """Return llama.cpp's name of the pattern by which a byte-level tokenizer splits a text."""
    pattern: str | None = None
    words: bool | None = None
    for part in _parts(found.get("pre_tokenizer")):
        if part["type"] == "Split" and "Regex" in part["pattern"] and pattern is None:
            pattern = part["pattern"]["Regex"]
        elif part["type"] == "Digits" and part["individual_digits"] and pattern is None:
            pattern = DIGITS
        elif part["type"] == "ByteLevel" and not part.get("add_prefix_space"):
            words = part.get("use_regex", True)
        else:
            words = None
            break
    whole = bool(found["model"].get("ignore_merges", False))
    for name, splitting in SPLITTINGS.items():
        if (splitting.pattern, splitting.words, splitting.whole) == (pattern, words, whole):
            return name
    raise ModelError(
        _refused("it splits a text in a way for which farense knows no name of llama.cpp's")
    )


def _template(found: Mapping[str, Any]) -> Iterator[bool]:
    """Yield of each part of what is made of a text whether it is a special token."""
    processor = found.get("post_processor")
    if processor is None:
        return
    steps = processor["processors"] if processor["type"] == "Sequence" else [processor]
    for step in steps:
        if step["type"] == "TemplateProcessing":
            for part in step["single"]:
                yield "SpecialToken" in part


def _kinds(
    model: Mapping[str, Any], added: list[Any], size: int, words: Mapping[int, str]
) -> list[TokenType]:
    kinds = [TokenType.NORMAL if index in words else TokenType.UNUSED for index in range(size)]
    if model.get("byte_fallback"):
        for value in range(256):
            if (index := model["vocab"].get(f"<0x{value:02X}>")) is not None:
                kinds[index] = TokenType.BYTE
    for token in added:
        kinds[token["id"]] = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
    if (unknown := model["vocab"].get(model.get("unk_token"))) is not None:
        kinds[unknown] = TokenType.UNKNOWN
    return kinds


def _written(words: Mapping[int, str], index: int, added: set[int], *, sentencepiece: bool) -> str:
    """Return a token as a GGUF spells it; one for an id that has none."""
    word = words.get(index, f"[PAD{index}]")
    # Those are looked for in the text itself, where a space is a space.
    return word.replace(SPACE, " ") if sentencepiece and index in added else word


def _scores(merges: list[Any], tokens: list[str]) -> list[float]:
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        ranks.setdefault("".join(pair), rank)
    return [float(-ranks[token]) if token in ranks else NEVER_JOINED for token in tokens]
