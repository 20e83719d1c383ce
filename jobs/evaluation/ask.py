"""Questions to a trained model, one at a time, answered token by token.

The prompt is the one of training and of evaluations, and so are weights and tokens: greedy answers
are those of `farense evaluate`, up to what its batches round otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from jobs.backend.blas import set_blas_threads
from jobs.backend.mlx import stream_generate
from jobs.backend.streams import cpu_threads
from jobs.config.config import config_from
from jobs.data.chat.templating import templated_text
from jobs.data.examples import Dialogue, read_examples
from jobs.data.messages import Message
from jobs.data.prompts import farense_prompt
from jobs.data.reasoning import Frame
from jobs.data.tokenize import frame_of, prompt_tokens
from jobs.data.tokenizer import TemplateSettings
from jobs.errors import DataError
from jobs.model.adapter import read_adapter
from jobs.model.load import load_base, load_tokenizer
from jobs.model_store.folder import check_unchanged
from jobs.paths import Workspace
from jobs.served.ask import Completion, Prompt
from jobs.spec import JobSpec

MAX_NEW_TOKENS = 512
# What decoders put in the place of bytes that are no character, or not yet.
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
UNFRAMED = Frame()


@dataclass(frozen=True)
class AnswerPiece:
    """A part of an answer.

    Attributes:
        text: what comes next; empty where nothing can be shown yet.
        tokens: of the answer so far.
        end: ``stop`` with the last piece, ``length`` where the limit came first; else None.
        reasoning: what comes next of the reasoning before the answer; tokens count it, too.
    """

    text: str
    tokens: int
    end: str | None
    reasoning: str = ""


class Answerer:
    """A job's model with its best adapter, ready to answer.

    Args:
        base: leave the adapter away.

    Raises:
        InvalidInput: the job has no adapter.
        ModelError: its model is not here, has changed, or cannot be loaded.
    """

    def __init__(self, workspace: Workspace, spec: JobSpec, *, base: bool = False) -> None:
        config = config_from(spec.config, f"job.json of {spec.id}")
        adapter = None if base else read_adapter(workspace.run(spec.id))
        path = workspace.model(config.model)
        check_unchanged(path, spec.model_fingerprint)
        self._style = config.prompt_format
        self._system = common_system(workspace, spec)
        template = TemplateSettings.of(config, spec.prompts_written_on)
        self._tokenizer = load_tokenizer(path, template)
        self._module, _ = load_base(path)
        if adapter is not None:
            adapter.put_on(self._module, config.lora)
        self._module.eval()
        set_blas_threads(cpu_threads())

    def answer(self, question: str, max_new_tokens: int = MAX_NEW_TOKENS) -> Iterator[AnswerPiece]:
        """Yield a greedy answer as it comes, without the white space around it.

        Reasoning before it is no part of it, and comes as such.

        Raises:
            DataError, ModelError: the question cannot be written in the job's prompt format.
        """
        row, tokenizer = self._row(question), self._tokenizer
        prompt = prompt_tokens(row, tokenizer, self._style)
        frame = frame_of(row, tokenizer, self._style)
        made = stream_generate(
            self._module, tokenizer.wrapper, list(prompt), max_tokens=max_new_tokens
        )

        return pieces(((m.token, m.finish_reason) for m in made), tokenizer.decode, frame)

    def prompt(self, question: str) -> Prompt:
        """Return what the model is given, for a server to go on with.

        Raises: what :meth:`answer` raises.
        """
        row, tokenizer = self._row(question), self._tokenizer
        if self._style == "chat":
            text = templated_text(row.context, row, tokenizer, answer_next=True)
        else:
            text = farense_prompt(row)
        bos = tokenizer.begins_with
        return Prompt(
            prompt_tokens(row, tokenizer, self._style),
            text.removeprefix(bos),
            tokenizer.bos_token_id if bos else None,
            tokenizer.end_texts,
        )

    def parts(self, question: str, completion: Completion) -> tuple[str | None, str]:
        """Return the reasoning, None where there is none, and the answer in what was written."""
        row = self._row(question)
        return frame_of(row, self._tokenizer, self._style).parts(completion.text.strip())

    def _row(self, question: str) -> Dialogue:
        return Dialogue((*self._system, Message("user", question)), "")


def pieces(
    made: Iterable[tuple[int, str | None]],
    decode: Callable[[list[int]], str],
    frame: Frame = UNFRAMED,
) -> Iterator[AnswerPiece]:
    """Yield the text of tokens as it grows; together it is what decoding them all at once gives.

    Args:
        made: each token with ``stop`` (it is the end and none of the answer), ``length`` (it is
            the last that there may be) or None.
        decode: the tokenizer's; text around a token may change with the next, so all are decoded.
        frame: what is said around the answer.
    """
    tokens: list[int] = []
    thoughts, shown = _Growing(), _Growing()
    for token, end in made:
        if end != "stop":
            tokens.append(token)
        text = decode(tokens).strip()
        if end is None:
            # Waits for the rest of a character, and white space for something to follow it.
            text = text.rstrip(UNKNOWN).rstrip()
        reasoning, answer = frame.parts(text) if end else frame.parts_so_far(text)
        yield AnswerPiece(shown.more(answer), len(tokens), end, thoughts.more(reasoning or ""))


class _Growing:
    """A text of which each part is shown once."""

    def __init__(self) -> None:
        self._shown = ""

    def more(self, text: str) -> str:
        """Return what ``text`` has after what was shown, without white space at its end."""
        whole = text.rstrip()
        new = whole[len(self._shown) :] if whole.startswith(self._shown) else ""
        self._shown += new
        return new


def common_system(workspace: Workspace, spec: JobSpec) -> tuple[Message, ...]:
    """Return the system message that all questions of the validation set begin with, if any.

    A model that was always told who it is would answer otherwise without it.
    """
    file = spec.valid or spec.train
    try:
        rows = read_examples(workspace.inside(file.path))
    except (DataError, OSError):
        return ()
    found = {
        row.context[0] if len(row.context) > 1 else None
        for row in rows
        if isinstance(row, Dialogue)
    }
    message = found.pop() if len(found) == 1 else None
    return (message,) if message is not None and message.role == "system" else ()
