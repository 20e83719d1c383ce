"""Small tokenizers of the kinds that models have, trained on a few sentences."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import Prepend, Replace
from tokenizers.normalizers import Sequence as Steps
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

from jobs.model_store.tiny import SENTENCES

SPACE = "▁"
UNKNOWN = "<unk>"
WORDS = 400


def byte_level(folder: Path, pattern: str | None, *, ignore_merges: bool = False) -> Path:
    """Write a byte-level tokenizer; return its folder.

    Args:
        pattern: by which a text is split; None for the one of GPT-2, ``digits`` for it and each
            digit by itself.
    """
    tokenizer = Tokenizer(BPE(ignore_merges=ignore_merges))
    if pattern is None:
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    elif pattern == "digits":
        parts = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        tokenizer.pre_tokenizer = Sequence(parts)
    else:
        split = Split(Regex(pattern), "isolated")
        whole = ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = Sequence([split, whole])
    tokenizer.decoder = ByteLevelDecoder()
    special = ["<s>", "</s>", "<pad>"]
    tokenizer.train_from_iterator(
        SENTENCES,
        BpeTrainer(
            vocab_size=WORDS,
            special_tokens=special,
            initial_alphabet=ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return _written(folder, tokenizer)


def sentencepiece(folder: Path, *, space_first: bool = True) -> Path:
    """Write a tokenizer as those are that were made of a SentencePiece model."""
    tokenizer = Tokenizer(BPE(unk_token=UNKNOWN, byte_fallback=True, fuse_unk=True))
    marked = Replace(" ", SPACE)
    tokenizer.normalizer = Steps([Prepend(SPACE), marked]) if space_first else marked
    special = [UNKNOWN, "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256))]
    trainer = BpeTrainer(vocab_size=WORDS, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    found = json.loads(tokenizer.to_str())
    # The bytes are words of the model, and no tokens that a text can name.
    found["added_tokens"] = [t for t in found["added_tokens"] if not t["content"].startswith("<0x")]
    found["model"]["merges"] = all_merges(found["model"]["vocab"], found["model"]["merges"])
    tokenizer = Tokenizer.from_str(json.dumps(found))
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens([AddedToken(token) for token in special[:3]])
    return _written(folder, tokenizer)


def all_merges(words: dict[str, int], trained: list[list[str]]) -> list[list[str]]:
    """Return all merges that make a word, listed as when a SentencePiece model is converted."""
    found = []
    for whole in dict.fromkeys("".join(merge) for merge in trained):
        splits = [(whole[:place], whole[place:]) for place in range(1, len(whole))]
        pairs = [pair for pair in splits if pair[0] in words and pair[1] in words]
        found += [list(pair) for pair in sorted(pairs, key=lambda p: (words[p[0]], words[p[1]]))]
    return found


def _written(folder: Path, tokenizer: Tokenizer) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder
