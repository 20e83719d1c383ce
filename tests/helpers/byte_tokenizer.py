"""A tokenizer whose tokens are bytes, so that a test can spell out what it expects."""

from __future__ import annotations

from mlx_lm.tokenizer_utils import TokenizerWrapper
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from jobs.data.tokenizer import TemplateSettings
from jobs.data.tokenizer import Tokenizer as BoundTokenizer

SPECIAL = ("<s>", "</s>", "<|turn|>", "<|end|>")
BOS, EOS = 0, 1


def byte_tokenizer(
    chat_template: str | None = None,
    *,
    adds: str = "<s> $A",
    eos_token: str | None = "</s>",  # noqa: S107 - not a password
    stops_at: tuple[int, ...] = (),
    settings: TemplateSettings | None = None,
) -> BoundTokenizer:
    """Return a tokenizer of bytes.

    Args:
        adds: the special tokens that encoding adds around a text, ``$A``.
        stops_at: further tokens at which generation stops.
        settings: for the template.
    """
    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *ByteLevel.alphabet()))}
    tokenizer = Tokenizer(BPE(vocabulary, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.post_processor = TemplateProcessing(
        single=adds, special_tokens=[("<s>", BOS), ("</s>", EOS)]
    )
    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=SPECIAL[BOS],
        eos_token=eos_token,
        additional_special_tokens=["<|turn|>", "<|end|>"],
        chat_template=chat_template,
    )
    return BoundTokenizer(TokenizerWrapper(wrapped, eos_token_ids=stops_at), settings)
