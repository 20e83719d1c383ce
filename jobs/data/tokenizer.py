"""The model's tokenizer with its chat template, set once for a job: every part of farense that
writes a prompt (training, evaluation, ``ask``, checks) then writes the same one.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

from jobs.data.chat.template_takes import TemplateTakes
from jobs.data.reasoning import Marks
from jobs.errors import ModelError

if TYPE_CHECKING:
    from jobs.config.config import TrainConfig

Thinking = Literal["off", "on"]
# Messages as templates take them.
Turns = list[dict[str, Any]]
# How templates call the switch of their reasoning, with its values for off and on. Qwen, GLM and
# others read the first, DeepSeek-V3.1, Granite and Kimi the second, Command A the third; Seed-OSS
# takes a number of tokens, and thinks as it likes where nobody names one.
SWITCHES: Mapping[str, tuple[object, object]] = {
    "enable_thinking": (False, True),
    "thinking": (False, True),
    "reasoning": (False, True),
    "thinking_budget": (0, None),
}
# Others name an effort, in words of their own: the first of these that a template knows asks for no
# reasoning, or for the least; gpt-oss, which writes down any word, was trained on the last.
EFFORT, EFFORTS_OFF, EFFORT_ON = "reasoning_effort", ("none", "no_think", "low"), "high"
# The one that mlx-lm gives to every template.
MLX_SWITCH = "enable_thinking"
# The function by which a template asks for the day. transformers lets nobody pass another one, so a
# macro of that name is put before the template.
CLOCK, DAY_AS = "strftime_now", "day_as"
FROZEN_CLOCK = f"{{%- macro {CLOCK}(format) -%}}{{{{ {DAY_AS}[format] }}}}{{%- endmacro -%}}"
DEFAULT = "default"
# Marks of reasoning that templates and models spell out where mlx-lm knows none. In those of
# gpt-oss a block is a message in a channel of its own, and the answer is another.
SPELLED_MARKS = (
    Marks("<think>", "</think>"),
    Marks("[THINK]", "[/THINK]"),
    Marks("<seed:think>", "</seed:think>"),
    Marks("<|START_THINKING|>", "<|END_THINKING|>"),
    Marks("<|channel|>analysis<|message|>", "<|end|>", "<|start|>assistant"),
)
# The block of a template that marks what an assistant says.
GENERATION = re.compile(r"\{%-?\s*generation\b")
# Where SentencePiece writes a space.
SPACE = "▁"


@dataclass(frozen=True)
class TemplateSettings:
    """How a job has conversations written, and which of their answers are learned.

    Attributes:
        thinking: whether the model is asked to reason before it answers.
        name: of the template, where the tokenizer has several.
        date: ``YYYY-MM-DD``, the day that a template which writes one is given; None for today.
        all_answers: every answer of a conversation is learned, not the last one alone.
    """

    thinking: Thinking = "off"
    name: str | None = None
    date: str | None = None
    all_answers: bool = False

    @classmethod
    def of(cls, config: TrainConfig, date: str | None) -> TemplateSettings:
        """Return the settings of a config, for the day that the job's prompts hold."""
        every = config.loss_on == "all_answers"
        return cls(config.thinking, config.chat_template, date, every)

    def strftime(self, pattern: str) -> str:
        """Return the day as a template asks for it."""
        return datetime.fromisoformat(self.date or datetime.now().date().isoformat()).strftime(
            pattern
        )


class Tokenizer:
    """mlx-lm's ``TokenizerWrapper``, whose chat template is always given the same settings.

    Args:
        wrapper: what mlx-lm loads.
        settings: for the template.
    """

    def __init__(self, wrapper: Any, settings: TemplateSettings | None = None) -> None:
        self.wrapper = wrapper
        self._tokenizer = wrapper._tokenizer  # transformers' own
        self.settings = settings or TemplateSettings()
        # Structure of a conversation -> the part of it that the template does not write.
        self.unwritten: dict[Hashable, str | None] = {}

    @property
    def has_chat_template(self) -> bool:
        """Whether there is any template."""
        return bool(self.wrapper.has_chat_template)

    @property
    def eos_token_id(self) -> int | None:
        """The token that ends a text."""
        found: int | None = self.wrapper.eos_token_id
        return found

    @property
    def eos_token_ids(self) -> set[int]:
        """All tokens at which generation stops."""
        found: set[int] = self.wrapper.eos_token_ids
        return found

    @property
    def bos_token_id(self) -> int | None:
        """The token that begins a text."""
        found: int | None = self.wrapper.bos_token_id
        return found

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Return the token ids of ``text``."""
        return list(self.wrapper.encode(text, add_special_tokens=add_special_tokens))

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids, special tokens among them."""
        return str(self.wrapper.decode(list(tokens)))

    def templated(
        self, turns: Turns, tools: list[Any] | None = None, *, answer_next: bool
    ) -> list[int]:
        """Return the token ids of a conversation.

        Args:
            tools: what the assistant may call.
            answer_next: it ends where the assistant's answer begins.

        Raises:
            ModelError: there is no template to be used.
            Exception: whatever the template raises, which is a program of its own.
        """
        options = self._options(tools)
        return list(
            self.wrapper.apply_chat_template(turns, add_generation_prompt=answer_next, **options)
        )

    def templated_text(
        self, turns: Turns, tools: list[Any] | None = None, *, answer_next: bool
    ) -> str:
        """Return a conversation as :meth:`templated` encodes it; raises what that raises."""
        options = self._options(tools)
        return str(
            self.wrapper.apply_chat_template(
                turns, add_generation_prompt=answer_next, tokenize=False, **options
            )
        )

    def marked(self, turns: Turns, tools: list[Any] | None = None) -> list[tuple[int, bool]] | None:
        """Return the tokens of a conversation, each with whether the template marks it as said by
        the assistant (``{% generation %}``); None where the template marks nothing.

        Raises: what :meth:`templated` raises.
        """
        if GENERATION.search(self.template or "") is None or not self._tokenizer.is_fast:
            return None
        found = self._tokenizer.apply_chat_template(
            turns,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
            **self._options(tools),
        )
        marks = map(bool, found["assistant_masks"])
        return list(zip(found["input_ids"], marks, strict=True))

    @cached_property
    def template(self) -> str | None:
        """The text of the template that is used; None where it is a program, not a text.

        Raises:
            ModelError: there are several and no choice, or not the one that was chosen.
        """
        found, name = self.wrapper.chat_template, self.settings.name
        if getattr(self.wrapper, "_chat_template", None) is not None:
            found = None  # mlx-lm's own program for this model goes before the text
        if isinstance(found, Mapping):
            chosen = found.get(name or DEFAULT)
            if chosen is not None:
                return str(chosen)
            known = sorted(map(str, found))
            names = ", ".join(known)
            missing = (
                f"no chat template named {name!r}"
                if name
                else "several chat templates, none of them named default"
            )
            raise ModelError(
                f"The model's tokenizer has {missing}; it has: {names}.",
                f"Choose one: --set chat_template={known[0]} (`data check`: --chat-template "
                f"{known[0]}).",
            )
        if name not in (None, DEFAULT):
            raise ModelError(
                f"The model's tokenizer has no chat template named {name!r}: it has "
                f"{'one, without a name' if self.has_chat_template else 'none'}.",
                "Leave chat_template out.",
            )
        return None if found is None else str(found)

    @cached_property
    def reads(self) -> frozenset[str]:
        """The variables that the template reads and does not set itself."""
        from jinja2 import TemplateError, meta  # noqa: PLC0415 - takes a while, and not all need it

        try:
            return frozenset(meta.find_undeclared_variables(_parser().parse(self.template or "")))
        except TemplateError as error:
            raise ModelError(
                f"The model's chat template is not a Jinja template: {error}."
            ) from error

    @property
    def switch(self) -> str | None:
        """The variable by which the template's reasoning is turned on and off."""
        found = next((name for name in SWITCHES if name in self.reads), None)
        return EFFORT if found is None and self._efforts[0] in EFFORTS_OFF[:-1] else found

    @property
    def goes_by_effort(self) -> bool:
        """Whether the template is told how much to reason, and knows no other switch."""
        return EFFORT in self._switches_for(0)

    @property
    def effort(self) -> str | None:
        """The effort of reasoning that the template is asked for; None where none is named."""
        found = self._switches().get(EFFORT)
        return None if found is None else str(found)

    @property
    def writes_date(self) -> bool:
        """Whether the template asks for the day."""
        return CLOCK in self.reads

    def command_options(self) -> dict[str, object]:
        """Return what makes other programs render this prompt: plain values, by variable.

        mlx-lm takes it as ``--chat-template-config``, servers as ``chat_template_kwargs``.
        """
        options = dict(self._options())
        if MLX_SWITCH not in self.reads:
            del options[MLX_SWITCH]
        if not self.writes_date:
            options.pop("chat_template", None)
            if self.settings.name and isinstance(self.wrapper.chat_template, Mapping):
                options["chat_template"] = self.settings.name
        return options

    @cached_property
    def template_takes(self) -> TemplateTakes:
        """How the template takes what templates take in different ways."""
        return TemplateTakes(partial(self.templated_text, answer_next=False))

    @cached_property
    def marks(self) -> Marks | None:
        """The marks of reasoning that the model knows, or its template writes."""
        start, end = self.wrapper.think_start, self.wrapper.think_end
        if start is not None and end is not None:
            return Marks(str(start), str(end))
        found = self.wrapper.chat_template
        texts = found.values() if isinstance(found, Mapping) else (found or "",)
        whole = "".join(map(str, texts))
        return next((marks for marks in SPELLED_MARKS if marks.start in whole), None)

    @cached_property
    def idle_ends(self) -> frozenset[int]:
        """Special tokens with which the template ends an answer, though nothing stops at them."""
        if not self.has_chat_template:
            return frozenset()
        answer = "Sim."
        turns = [{"role": "user", "content": "A?"}, {"role": "assistant", "content": answer}]
        try:
            text = self.templated_text(turns, answer_next=False)
        except Exception:  # a template that refuses this says nothing of how answers end
            return frozenset()
        place = text.rfind(answer)
        if place < 0:
            return frozenset()
        tail = self.encode(text[place + len(answer) :], add_special_tokens=False)
        special = set(self._tokenizer.added_tokens_decoder)
        return frozenset(special.intersection(tail) - self.eos_token_ids)

    @cached_property
    def end_texts(self) -> tuple[str, ...]:
        """The texts of all tokens that end an answer, as people find them in their data."""
        texts = {self.decode([token]).strip() for token in self.eos_token_ids | self.idle_ends}
        return tuple(sorted(filter(None, texts)))

    @cached_property
    def control_texts(self) -> tuple[str, ...]:
        """The texts of all special tokens: a template writes them, and no person should."""
        added = self._tokenizer.added_tokens_decoder.values()
        return tuple(sorted({token.content for token in added if token.special}))

    @cached_property
    def begins_with(self) -> str:
        """The text of the BOS that is put before whatever is encoded; empty where none is."""
        bos = self.bos_token_id
        return "" if bos is None or self.encode("A")[:1] != [bos] else self.decode([bos])

    @cached_property
    def adds_space(self) -> bool:
        """Whether a text that is encoded by itself gets a space before it (SentencePiece)."""
        first = self.encode("a", add_special_tokens=False)[:1]
        return any(str(t).startswith(SPACE) for t in self._tokenizer.convert_ids_to_tokens(first))

    def _switches(self) -> dict[str, object]:
        return self._switches_for(int(self.settings.thinking == "on"))

    def _switches_for(self, chosen: int) -> dict[str, object]:
        """Return what the template is told of reasoning; ``chosen`` is 0 for off, 1 for on."""
        found = {name: values[chosen] for name, values in SWITCHES.items() if name in self.reads}
        if not found:
            found = {EFFORT: self._efforts[chosen]}
        return {name: value for name, value in found.items() if value is not None}

    @cached_property
    def _efforts(self) -> tuple[str | None, str | None]:
        """The efforts for thinking off and on; None where the template's own is left."""
        if EFFORT not in self.reads:
            return None, None
        off = next((word for word in EFFORTS_OFF if word in self._words), EFFORTS_OFF[-1])
        return off, EFFORT_ON if EFFORT_ON in self._words else None

    def _options(self, tools: list[Any] | None = None) -> dict[str, object]:
        # mlx-lm gives every template `enable_thinking`, by a guess of its own where nobody has.
        options: dict[str, object] = {MLX_SWITCH: self.settings.thinking == "on"}
        if tools is not None:
            options["tools"] = tools
        options |= self._switches()
        if isinstance(self.wrapper.chat_template, Mapping):
            options["chat_template"] = self.template
        if self.writes_date:
            options["chat_template"] = f"{FROZEN_CLOCK}{self.template}"
            options[DAY_AS] = self._day_as
        return options

    @cached_property
    def _day_as(self) -> dict[str, str]:
        """The job's day in every format that stands in the template."""
        return {text: self.settings.strftime(text) for text in self._words if "%" in text}

    @cached_property
    def _words(self) -> frozenset[str]:
        """The texts that stand in the template's expressions."""
        from jinja2 import nodes  # noqa: PLC0415 - as above

        constants = _parser().parse(self.template or "").find_all(nodes.Const)
        return frozenset(c.value for c in constants if isinstance(c.value, str))


def _parser() -> Any:
    """Return a Jinja environment that parses what chat templates hold, and runs nothing."""
    from jinja2 import Environment, nodes  # noqa: PLC0415 - as above
    from jinja2.ext import Extension  # noqa: PLC0415

    class Generation(Extension):
        """The block that transformers adds to the language: it marks what an assistant says."""

        tags = {"generation"}  # noqa: RUF012 - as the base class has it

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    return Environment(extensions=[Generation, "jinja2.ext.loopcontrols"])  # noqa: S701 - parses only
