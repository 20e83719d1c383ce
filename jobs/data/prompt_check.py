"""What a person should know of the prompts of a job before it is queued, from its model alone."""

from __future__ import annotations

from jobs.data.examples import Dialogue
from jobs.data.messages import Message
from jobs.data.prompts import PromptFormat
from jobs.data.tokenize import PLAIN_ANSWER, encode_example, prompt_tokens
from jobs.data.tokenizer import EFFORT, Tokenizer
from jobs.errors import DataError

SAMPLE = Dialogue((Message("user", "Onde joga o Farense?"),), PLAIN_ANSWER)


def prompt_warnings(tokenizer: Tokenizer, prompt_format: PromptFormat) -> tuple[str, ...]:
    """Return what the chat template makes of a plain answer, where that may surprise.

    Raises:
        ModelError: the tokenizer cannot be used with ``prompt_format``.
    """
    if prompt_format != "chat":
        return ()
    try:
        prompt = tokenizer.decode(prompt_tokens(SAMPLE, tokenizer, prompt_format))
        found = encode_example(SAMPLE, tokenizer, prompt_format)
    except DataError:  # it refuses this conversation; what it says of the data's is found there
        return ()
    learned = tokenizer.decode(found.tokens[found.completion_start :])
    said = (*_of_reasoning(tokenizer, prompt, learned), *_of_ends(tokenizer), *_of_date(tokenizer))
    return tuple(filter(None, said))


def _of_reasoning(tokenizer: Tokenizer, prompt: str, learned: str) -> tuple[str, ...]:
    marks, on = tokenizer.marks, tokenizer.settings.thinking == "on"
    by_effort = tokenizer.goes_by_effort
    if marks is None:
        nothing = on and not by_effort
        return (
            ("The chat template knows no reasoning: thinking: on changes nothing.",)
            if nothing
            else ()
        )
    opens, writes = marks.opened(prompt), marks.split(learned)[0] is not None
    if on:
        if tokenizer.switch is None and not by_effort and not opens:
            return ("The chat template has no switch for reasoning: thinking: on changes nothing.",)
        if opens or writes:
            return (
                "thinking: on: where an answer of the data holds no reasoning, an empty block "
                f"({marks.start} {marks.end}) is learned before it.",
            )
        if by_effort:
            return (
                "thinking: on: where an answer of the data holds no reasoning, to answer at once "
                "is what is learned.",
            )
        return ()
    if opens:
        return (
            f"The chat template opens a reasoning block ({marks.start}) in every prompt, and has "
            "no switch that thinking: off could turn. What is learned is to close it at once and "
            f"then to answer; servers show what follows {marks.end}. The base model will reason.",
        )
    if writes:
        return (
            f"The chat template writes an empty reasoning block ({marks.start} {marks.end}) before "
            "an answer and not in the prompt, and has no switch for that: the block is learned "
            "with the answer. It is not scored.",
        )
    if tokenizer.switch is None and by_effort:
        return (
            "The chat template cannot switch reasoning off: it is asked for as little as it knows "
            f"({EFFORT}: {tokenizer.effort}). What is learned is to answer at once; the base model "
            "may reason before it answers.",
        )
    return ()


def _of_ends(tokenizer: Tokenizer) -> tuple[str, ...]:
    if not tokenizer.idle_ends or tokenizer.eos_token_id is None:
        return ()
    ends = " ".join(tokenizer.decode([token]) for token in sorted(tokenizer.idle_ends))
    eos = tokenizer.decode([tokenizer.eos_token_id])
    return (
        f"The chat template ends an answer with {ends}, at which nothing stops: it is none of the "
        f"model's EOS tokens. Learned is {eos} in its place.",
    )


def _of_date(tokenizer: Tokenizer) -> tuple[str, ...]:
    if not tokenizer.writes_date:
        return ()
    return (
        "The chat template writes the day's date into the prompt. All prompts of this job, and of "
        "its evaluations, hold that of the day it was queued; a server writes its own.",
    )
