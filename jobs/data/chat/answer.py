"""What follows a prompt: the tokens of an answer, as the chat template writes it, up to its end."""

from __future__ import annotations

from jobs.data.chat.templating import eos_of, reasoning_key, templated, templated_text
from jobs.data.chat.turns import end_of_turn, without_idle_end
from jobs.data.examples import Dialogue, located
from jobs.data.reasoning import Marks
from jobs.data.tokenizer import Tokenizer
from jobs.errors import DataError

# What a text is encoded behind, to keep SentencePiece from writing a space before it.
ANCHORS = ("\n", ":", "]")


def templated_completion(row: Dialogue, tokenizer: Tokenizer, prompt: tuple[int, ...]) -> list[int]:
    """Return what follows the prompt up to the end of the turn.

    That is what the template adds to the prompt for the answer. Where it rewrites the prompt once
    there is an answer, the answer follows the prompt as it is, with the template's end of a turn.
    """
    thought = row.reasoning
    if thought is None and tokenizer.marks is not None:
        thought = tokenizer.marks.split(row.completion)[0]
    if not thought:
        return _ended(_unended_completion(row, tokenizer, prompt), tokenizer)
    before = templated_text(row.context, row, tokenizer, answer_next=True)
    _check_reasoning(before, row, tokenizer.marks)
    completion = _ended(_unended_completion(row, tokenizer, prompt), tokenizer)
    if not _holds(completion, thought, before, row, tokenizer):
        raise DataError(
            located(row, "the model's chat template does not write the reasoning of the answer"),
            "Take it out of the data, or use a model whose template keeps it.",
        )
    return completion


def _unended_completion(row: Dialogue, tokenizer: Tokenizer, prompt: tuple[int, ...]) -> list[int]:
    """Return what follows the prompt, with all that the template puts behind the end of a turn."""
    whole = templated(row.conversation, row, tokenizer, answer_next=False)
    if whole[: len(prompt)] == prompt:
        return list(whole[len(prompt) :])
    before = templated_text(row.context, row, tokenizer, answer_next=True)
    text = templated_text(row.conversation, row, tokenizer, answer_next=False)
    if text.startswith(before):
        rest = text[len(before) :]
    elif row.tool_calls:
        rest = _calls_rewritten(before, text, row, tokenizer.marks)
    else:
        rest = _rewritten(before, text, row, tokenizer.marks)
    return following(before, prompt, rest, tokenizer, whole_text=False)


def _holds(
    completion: list[int], thought: str, before: str, row: Dialogue, tokenizer: Tokenizer
) -> bool:
    """Tell whether what follows the prompt ``before`` begins with what was thought, as the model
    would think it.

    Some templates take the block out, put an empty one before it, or something of their own.
    """
    text, marks = tokenizer.decode(completion), tokenizer.marks
    if thought.strip() not in text:
        return False
    if row.reasoning is not None and reasoning_key(row.answer, tokenizer) is not None:
        return True
    if marks is None:
        return False
    return marks.split(text, opened=marks.opened(before))[0] == thought.strip()


def _check_reasoning(before: str, row: Dialogue, marks: Marks | None) -> None:
    """Refuse reasoning that would be learned after a prompt which says that there is none.

    Args:
        before: the text of the prompt.

    Raises:
        DataError: naming file and line.
    """
    if marks is not None and marks.closed(before):
        raise DataError(
            located(
                row,
                f"the answer holds reasoning ({marks.start}), and with thinking: off the prompt "
                "says that there is none",
            ),
            "Set thinking: on, or take the reasoning out of the answers.",
        )


def _rewritten(before: str, whole: str, row: Dialogue, marks: Marks | None) -> str:
    """Return the text that follows a prompt which the template does not keep."""
    answer = row.completion
    reasoning, core = row.reasoning, answer.strip()
    if marks is not None:
        thought, core = marks.split(answer)
        reasoning, core = reasoning or thought, core.strip()
    place = whole.rfind(core)
    head, tail = (whole[:place], whole[place + len(core) :]) if place >= 0 else ("", "")
    if marks is not None and marks.opened(before):
        return marks.closing(before, reasoning or "") + core + tail
    return _space_between(before, head) + (answer if place < 0 else core) + tail


def _calls_rewritten(before: str, whole: str, row: Dialogue, marks: Marks | None) -> str:
    """Return the same where the answer calls tools: its words do not show where it begins.

    Raises:
        DataError: the template rewrites more of the prompt than a block of reasoning at its end.
    """
    ends = [before.rfind(mark) for mark in (marks.start, marks.end)] if marks is not None else []
    for end in ends:
        if end > 0 and whole.startswith(before[:end]):
            rest = whole[end:]
            if marks is None or not marks.opened(before):
                return rest
            thought, body = row.reasoning, rest
            if rest.startswith(marks.start):
                written, body = marks.split(rest)
                thought = thought or written
            return marks.closing(before, thought or "") + body.lstrip("\n")
    raise DataError(
        located(
            row,
            "the model's chat template writes what stands before the tool calls of the answer "
            "otherwise once they are there",
        ),
        "Try the other value of thinking, or a model whose template keeps its prompts.",
    )


def _space_between(prompt: str, head: str) -> str:
    """Return the white space that a template writes before an answer and not after a prompt."""
    written, there = (text[len(text.rstrip()) :] for text in (head, prompt))
    return written.removeprefix(there) if written.startswith(there) else ""


def following(
    before: str, prompt: tuple[int, ...], text: str, tokenizer: Tokenizer, *, whole_text: bool
) -> list[int]:
    """Return the tokens of a text that follows a prompt.

    SentencePiece writes a space before what is encoded by itself, which the file does not have:
    with such tokenizers the text is encoded behind the prompt.

    Args:
        before: the text of ``prompt``.
        whole_text: ``before`` was encoded with the special tokens that the tokenizer adds.
    """
    if tokenizer.adds_space:
        both = tokenizer.encode(before + text, add_special_tokens=whole_text)
        if whole_text:
            both = without_final(eos_of(tokenizer), both)
        if tuple(both[: len(prompt)]) == prompt:
            return both[len(prompt) :]
        # The text grows together with the end of the prompt. Behind something else it does not.
        for anchor in ANCHORS:
            head = tokenizer.encode(anchor, add_special_tokens=False)
            both = tokenizer.encode(anchor + text, add_special_tokens=False)
            if both[: len(head)] == head:
                return both[len(head) :]
    return tokenizer.encode(text, add_special_tokens=False)


def _ended(completion: list[int], tokenizer: Tokenizer) -> list[int]:
    """Return a completion up to the first token at which generation stops.

    Templates often put a newline, or another end, after the end of a turn: nothing generates that
    far. Where nothing stops at the end that a template writes, the tokenizer's EOS takes its place.
    """
    end = end_of_turn(completion, tokenizer)
    last = eos_of(tokenizer) if end is None else completion[end]
    return [*without_idle_end(completion[:end], tokenizer), last]


def without_final(eos: int, tokens: list[int]) -> list[int]:
    """Drop the EOS that some tokenizers add to everything they encode."""
    return tokens[:-1] if tokens[-1:] == [eos] else tokens
