"""``farense ask``: questions to a job's best adapter."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from cli.foreground import foreground_job
from cli.options import job_argument, json_option
from cli.output import note, print_json, terminal_width, warn
from jobs.errors import DataError
from jobs.paths import Workspace
from jobs.storage.values import printable

if TYPE_CHECKING:
    from jobs.evaluation.ask import Answerer
    from jobs.served.ask import Serving

# Answers a question on the screen, and returns what there is to say of it.
Respond = Callable[[str], dict[str, Any]]
PROMPT = "> "
KEPT = "\n\t"


@click.command(short_help="Ask a job's best adapter a question.")
@job_argument
@click.argument("question", metavar="[QUESTION]", required=False)
@click.option("--base", is_flag=True, help="Ask the base model, without the adapter.")
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1, 4096),
    default=512,
    metavar="N",
    help="Longest answer, in tokens (512).",
)
@click.option("--reasoning", is_flag=True, help="Show a thinking model's reasoning, on stderr.")
@click.option(
    "--via",
    metavar="URL",
    help="Ask Ollama or a llama.cpp server there, too, and show both answers.",
)
@click.option(
    "--via-model",
    metavar="NAME",
    help="Which of Ollama's models (that of `export --ollama`, where it was given).",
)
@json_option
def ask(
    job: str,
    question: str | None,
    base: bool,
    max_new_tokens: int,
    reasoning: bool,
    via: str | None,
    via_model: str | None,
    as_json: bool,
) -> None:
    """Let a training job's best adapter answer a question, token by token.

    JOB is an id, part of one, a name, or `latest`. The question is put as in training, and the
    answer is greedy: always the same. Without a question a terminal asks for one after the
    other (an empty line is passed over, Ctrl-D ends); otherwise each line of the input is one.
    Each stands for itself: the model does not know the ones before. What a thinking model
    reasons before it answers is left out, and counted among its tokens.

    --via puts the very same prompt to a model that Ollama or a llama.cpp server holds, greedily and
    with the same limit, and shows both answers side by side. That weights in another form give
    another word at some place is usual; another beginning is not.

    \b
    Examples:
      farense ask latest "Qual foi o resultado do jogo entre o Farense e o Benfica?"
      farense ask latest --base
      farense ask latest < questions.txt
      farense ask latest "Quem marcou?" --via http://127.0.0.1:11434
    """
    if as_json and question is None:
        raise click.UsageError(f'--json needs a question: farense ask {job} "..." --json')
    if question is not None and not question.strip():
        raise click.UsageError("The question is empty.")
    if question is not None and not is_unicode(question):
        raise click.UsageError("The question is not UTF-8.")
    if via is not None and reasoning:
        raise click.UsageError("With --via the reasoning of both stands in what --json prints.")
    if via_model is not None and via is None:
        raise click.UsageError("--via-model says which model --via asks: give both.")

    with foreground_job(job, "Ask", needs_adapter=not base) as (spec, _):
        there = None if via is None else server_at(via, via_model, spec.id)
        if question is None and sys.stdin.isatty():
            note("Loading the model ...")
        from jobs.evaluation.ask import Answerer  # noqa: PLC0415 - loads MLX

        answerer = Answerer(Workspace.current(), spec, base=base)

        def respond(asked: str) -> dict[str, Any]:
            if there is not None:
                return both(answerer, there, asked, max_new_tokens, quiet=as_json)
            return answer(answerer, asked, max_new_tokens, reasoning=reasoning, quiet=as_json)

        if question is None:
            answer_input(respond)
            return
        found = respond(question)
        if as_json:
            print_json({"job": spec.id, "by": "base" if base else "adapter", **found})


def answer_input(respond: Respond) -> None:
    """Answer what a person types, or each line of a file."""
    if sys.stdin.isatty():
        note("Ask; Ctrl-D ends.")
        converse(respond)
        return
    for line in lines_of(sys.stdin.buffer):
        if line.strip():
            respond(line)


def server_at(url: str, model: str | None, job: str) -> Serving:
    """Return what serves models at an address.

    Raises:
        InvalidInput: nothing that can be asked is there, or it does not have the model.
        NetworkError: nothing answers there.
    """
    from jobs.export.folder import ollama_name  # noqa: PLC0415 - only this asks for it
    from jobs.served.ask import find_server  # noqa: PLC0415 - loads HTTP and TLS
    from jobs.served.http import Server  # noqa: PLC0415 - for the same reason

    return find_server(Server(url), model, ollama_name(Workspace.current(), job))


def both(
    answerer: Answerer, there: Serving, question: str, max_new_tokens: int, *, quiet: bool
) -> dict[str, Any]:
    """Write the answers of farense and of a server, side by side; return them."""
    from cli.show.side_by_side import parting, side_by_side  # noqa: PLC0415 - only here

    asked = question.strip()
    # Ours is found first: a server that is slow to load need not be waited for twice.
    ours = answer(answerer, asked, max_new_tokens, quiet=True)
    completion = there.complete(answerer.prompt(asked), max_new_tokens, warn)
    reasoning, theirs = answerer.parts(asked, completion)
    if not quiet:
        heads = "farense", f"{there.name}, {there.model}"
        texts = [printable(text, keep=KEPT) for text in (ours["answer"], theirs)]
        click.echo(side_by_side(heads, (texts[0], texts[1]), terminal_width()))
        click.echo(f"\n{parting(texts[0], texts[1])}\n")
        if ours["cut"] or completion.cut:
            note(f"(cut after {max_new_tokens} tokens: --max-new-tokens)")
    return ours | {
        "via": {
            "server": there.name,
            "url": there.url,
            "model": there.model,
            "answer": theirs,
            "reasoning": reasoning,
            "cut": completion.cut,
            "same": theirs == ours["answer"],
        }
    }


def lines_of(source: Iterable[bytes]) -> Iterator[str]:
    """Yield lines of UTF-8 as they come.

    Raises:
        DataError: a line is not UTF-8.
    """
    for number, line in enumerate(source, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"The input's line {number} is not UTF-8.",
                "Convert it first, with `iconv -f ISO-8859-1 -t UTF-8`, say.",
            ) from error


def is_unicode(text: str) -> bool:
    """Tell whether a text is one: Python lets bytes that are none into arguments."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def answer(
    answerer: Answerer,
    question: str,
    max_new_tokens: int,
    *,
    reasoning: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write an answer to stdout as it comes; return it.

    Args:
        reasoning: write what comes before it to stderr, which is no result.
        quiet: write nothing.
    """
    texts: list[str] = []
    thoughts: list[str] = []
    tokens, end = 0, None
    for piece in answerer.answer(question.strip(), max_new_tokens):
        if piece.text and thoughts and not texts and reasoning and not quiet:
            click.echo("\n", err=True)
        texts += filter(None, [piece.text])
        thoughts += filter(None, [piece.reasoning])
        tokens, end = piece.tokens, piece.end
        if piece.reasoning and reasoning and not quiet:
            thought = printable(piece.reasoning, keep=KEPT)
            click.echo(click.style(thought, dim=True), nl=False, err=True)
        if piece.text and not quiet:
            click.echo(printable(piece.text, keep=KEPT), nl=False)
    cut = end == "length"
    if not quiet:
        click.echo()
        if cut:
            note(f"(cut after {max_new_tokens} tokens: --max-new-tokens)")
        if thoughts and not reasoning:
            note("(the reasoning before the answer was left out: --reasoning)")
    return {
        "question": question.strip(),
        "answer": "".join(texts),
        "reasoning": "".join(thoughts) or None,
        "tokens": tokens,
        "cut": cut,
    }


def converse(respond: Respond) -> None:
    """Answer what is typed until the input ends; Ctrl-C ends an answer, or the conversation."""
    while (line := typed()) is not None:
        if not line.strip():
            continue
        if not is_unicode(line):
            note("That was not valid UTF-8.")
            continue
        try:
            respond(line)
        except KeyboardInterrupt:
            click.echo()


def typed() -> str | None:
    """Return a line that is typed at the prompt; None where the input ends."""
    with suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - not everywhere; gives input() a line editor and the lines before
    try:
        # The prompt is no result: where stdout is a file it must not go there.
        if sys.stdout.isatty():
            return input(PROMPT)
        click.echo(PROMPT, nl=False, err=True)
        return sys.stdin.readline() or None
    except (EOFError, KeyboardInterrupt):
        click.echo(err=True)
        return None
