"""The answers of a conversation among its tokens: where each stands, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.data.chat.templating import marked, stops_of, templated
from jobs.data.examples import Dialogue, located
from jobs.data.messages import ASSISTANT
from jobs.data.tokenizer import Tokenizer
from jobs.errors import DataError

ONE_ANSWER_EACH = (
    "Use loss_on: last_answer, with a line of its own for each answer that is to be learned."
)


def earlier_answers(
    row: Dialogue, tokenizer: Tokenizer, prompt: tuple[int, ...]
) -> list[tuple[int, int]]:
    """Return where in the last prompt the answers before it stand, each with its end of a turn.

    Where nothing stops at the end that a template writes, it is no part of the answer.

    Args:
        row: its last answer without the text of end tokens.
        prompt: up to where that begins.

    Raises:
        DataError: the template writes an earlier answer, or what stands before it, otherwise in the
            whole conversation than where it is the last; naming file, line and token.
    """
    turns = [n for n, message in enumerate(row.context) if message.role == ASSISTANT]
    if not turns:
        return []
    found = []
    for turn in turns:
        start = _agreeing(row, turn, tokenizer, prompt, answer_next=True)
        answered = _agreeing(row, turn + 1, tokenizer, prompt, answer_next=False)
        said = prompt[start:answered]
        end = end_of_turn(said, tokenizer)
        length = len(without_idle_end(list(said), tokenizer)) if end is None else end + 1
        found.append((start, _with_end(start + length, prompt, tokenizer)))
    within = _marked(row, tokenizer, prompt)
    if within is None:
        return _learned(row, turns, found)
    # Marks say what of a turn is the assistant's: never its header, nor what follows its end.
    spans = zip(within, found, strict=False)
    both = [(max(a, c), _with_end(min(b, d), prompt, tokenizer)) for (a, b), (c, d) in spans]
    if len(within) == len(found) and all(start < end for start, end in both):
        return _learned(row, turns, both)
    raise DataError(
        located(
            row,
            f"the chat template marks {len(within)} answers ({{% generation %}}) before the last, "
            f"and there are {len(found)}, or others",
        ),
        ONE_ANSWER_EACH,
    )


def _learned(
    row: Dialogue, turns: Sequence[int], spans: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return the spans of the answers that the data does not leave out (``weight: 0``)."""
    pairs = zip(turns, spans, strict=True)
    return [span for turn, span in pairs if row.context[turn].learned]


def end_of_turn(turn: Sequence[int], tokenizer: Tokenizer) -> int | None:
    """Return the index of the first token at which generation stops; None where none does.

    Templates often put white space, or another end, behind the end of a turn.
    """
    stops = stops_of(tokenizer)
    places = [n for n, token in enumerate(turn) if token in stops]
    if not places:
        return None
    end = places[-1]
    for place in reversed(places[:-1]):
        if tokenizer.decode(turn[place + 1 : end]).strip():
            break
        end = place
    return end


def without_idle_end(body: list[int], tokenizer: Tokenizer) -> list[int]:
    """Drop an end of the turn at which nothing stops, with the white space around it."""
    length = len(body)
    while length and (
        body[length - 1] in tokenizer.idle_ends or not tokenizer.decode([body[length - 1]]).strip()
    ):
        length -= 1
    dropped = tokenizer.idle_ends.intersection(body[length:])
    return body[:length] if dropped else body


def _agreeing(
    row: Dialogue, turns: int, tokenizer: Tokenizer, prompt: tuple[int, ...], *, answer_next: bool
) -> int:
    """Return how many tokens the first ``turns`` messages are: those that ``prompt`` begins with.

    Raises:
        DataError: they are others.
    """
    found = templated(row.context[:turns], row, tokenizer, answer_next=answer_next)
    pairs = zip(found, prompt, strict=False)
    same = next((n for n, (one, other) in enumerate(pairs) if one != other), None)
    same = min(len(found), len(prompt)) if same is None else same
    if same == len(found):
        return same
    # White space behind a turn may grow together with what follows; and some templates end the last
    # turn, or the whole, with a token of its own.
    stops = stops_of(tokenizer)
    rest = [token for token in found[same:] if token not in stops]
    if not answer_next and not tokenizer.decode(rest).strip():
        return same
    here, there = (
        f"{tokenizer.decode(tokens[same : same + 1])!r}" if same < len(tokens) else "nothing"
        for tokens in (found, prompt)
    )
    message = turns if answer_next else turns - 1
    if answer_next and tokenizer.decode(prompt).startswith(tokenizer.decode(found)):
        raise DataError(
            located(
                row,
                f"loss_on: all_answers: the answer in message {message + 1} begins with "
                f"characters that make one token with the end of its prompt: {there}. After that "
                "prompt no model could begin so",
            ),
            "Take white space off its beginning, or use loss_on: last_answer.",
        )
    raise DataError(
        located(
            row,
            "loss_on: all_answers: the chat template writes the conversation otherwise once it "
            f"goes on. {'Before' if answer_next else 'In'} the answer in message {message + 1}, "
            f"token {same + 1} is {here} while that answer is the last, and {there} later",
        ),
        ONE_ANSWER_EACH,
    )


def _marked(
    row: Dialogue, tokenizer: Tokenizer, prompt: tuple[int, ...]
) -> list[tuple[int, int]] | None:
    """Return the earlier answers by the template's own marks; None where it has none."""
    pairs = marked(row.conversation, row, tokenizer)
    if pairs is None:
        return None
    tokens = tuple(token for token, _ in pairs)
    if tokens[: len(prompt)] != prompt:  # the last prompt says it otherwise: turn by turn, or not
        return None
    said = [by_assistant for _, by_assistant in pairs[: len(prompt)]]
    starts = [n for n, it in enumerate(said) if it and not (n and said[n - 1])]
    ends = [n + 1 for n, it in enumerate(said) if it and not (n + 1 < len(said) and said[n + 1])]
    # What is marked at the end of the prompt belongs to the last answer.
    if ends and ends[-1] == len(prompt):
        del starts[-1], ends[-1]
    return list(zip(starts, ends, strict=True))


def _with_end(end: int, prompt: tuple[int, ...], tokenizer: Tokenizer) -> int:
    """Return where an answer ends with the token behind it, where generation stops at that alone.

    Some templates mark the words and not their end, others end a turn where the next one begins.
    """
    stops = stops_of(tokenizer)
    return end + (prompt[end - 1] not in stops and prompt[end] in stops)
