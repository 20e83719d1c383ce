"""Where jobs are checked and their data frozen, whichever way they came in.

A command, a notebook, a sweep and a retry all pass here before anything is written. What is checked
stands in one table, :mod:`daemon.submit.check_table`. Each thing is looked at once, however many
jobs name it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from daemon.runs.frozen_data import freeze
from daemon.submit.data_files import Count, DataFiles, _sha256, count
from daemon.track.kinds import check_trackers
from jobs.errors import ConfigError, DataError, InvalidInput, ModelError
from jobs.paths import Workspace
from jobs.spec import DataFile, InitialAdapter, JobSpec

if TYPE_CHECKING:
    from jobs.config.config import TrainConfig
    from jobs.config.lora_keys import Reach
    from jobs.data.lengths import Length
    from jobs.data.prompts import PromptFormat
    from jobs.model.foreign_adapter import ForeignAdapter
    from jobs.model_store.safetensors_header import TensorEntry
    from jobs.rehearsal import Part, Rehearsed

    # What the header of an adapter says, by the names of its arrays.
    Arrays = dict[str, TensorEntry]

Result = TypeVar("Result")

# Settings by which hundreds of jobs differ and no check does.
NOT_CHECKED = {
    "learning_rate": 1.0,
    "lr_schedule": "constant",
    "min_learning_rate": 0.0,
    "warmup_steps": 0,
    "warmup_ratio": None,
    "weight_decay": 0.0,
    "seed": 0,
}


@dataclass(frozen=True)
class Wanted:
    """A job to be checked.

    Attributes:
        date: ``YYYY-MM-DD``, the day that its prompts hold; None for today.
        evaluated: it is an evaluation, or one is to follow it.
        trains: it trains; False of an evaluation.
        names: what the person calls data files that are frozen already, by their paths in config.
    """

    config: TrainConfig
    date: str | None = None
    evaluated: bool = False
    trains: bool = True
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """What a spec names by its content."""

    train: DataFile
    valid: DataFile | None
    model: str
    model_fingerprint: str
    init_from: InitialAdapter | None = None


class SubmitChecks:
    """Checks and freezes what configs name: each thing once, however many of them name it.

    Args:
        shared: another machine may run the jobs, so that nothing is refused for want of room here.
    """

    def __init__(self, workspace: Workspace, *, shared: bool = False) -> None:
        self._workspace, self._shared = workspace, shared
        self._known: dict[tuple[object, ...], Any] = {}
        self._files = DataFiles(workspace)

    @classmethod
    def of(cls, workspace: Workspace) -> SubmitChecks:
        """Return the checks for jobs that go on the queue which the environment names.

        Raises:
            ConfigError: it names none that could be.
        """
        from daemon.settings import Settings  # noqa: PLC0415 - who has a queue knows it already

        return cls(workspace, shared=Settings.from_environment().redis_url is not None)

    def look(self, config: TrainConfig, *, evaluated: bool = False, trains: bool = True) -> int:
        """Check what needs no other process: model folder, adapter's layers, lines of the data.

        Returns:
            The number of examples to train on.

        Raises:
            ModelError: there is no usable model folder where the config says.
            ConfigError: it has no such layers, no validation data to ask, or a tracker is missing.
            DataError: a data file is missing or has lines that cannot be used.
            InvalidInput: the path of the model leads out, or there is no adapter to start from.
        """
        from jobs.model_store.architectures import check_trainable  # noqa: PLC0415 - `status` needs none
        from jobs.model_store.folder import check_lora, check_model  # noqa: PLC0415 - for that reason
        from jobs.model_store.place import check_place, model_folder  # noqa: PLC0415

        # With a shared Redis another machine may have what this one lacks.
        check_trackers(config.trackers if trains and not self._shared else ())
        model, lora = model_folder(self._workspace, config.model), config.lora
        self._once(("model", model), lambda: check_model(model))
        self._once(("trainable", model, lora.keys), lambda: check_trainable(model, lora.keys))
        self._once(("place", model), lambda: check_place(self._workspace, config.model))
        self._once(("lora", model, lora.num_layers, lora.keys), lambda: check_lora(model, lora))
        train, valid = self._files.of(config)
        style = config.prompt_format
        with self._by_their_names():
            counts = [self._count(path, style) for path in (valid, train) if path]
            if evaluated:
                self.check_questions(valid, style)
        if trains and config.init_from is not None:
            self._start(config.init_from)
        return counts[-1].examples

    def check(self, wanted: Sequence[Wanted]) -> list[list[str]]:
        """Check all that can be known of jobs before they run.

        Returns:
            What a person should know of each.

        Raises:
            InvalidInput: as :meth:`look`; or the tokenizer, its template, mlx-lm or this machine
                cannot do what a job wants; or nothing is left to learn from.
            WorkspaceError: the disk has no room for a run.
            JobFailed: the process that looks at tokenizer and model gives no answer.
        """
        keys = [_key(each) for each in wanted]
        new = {key: each for key, each in zip(keys, wanted, strict=True) if key not in self._known}
        self._check_new(new)
        return [self._known[key] for key in keys]

    def _check_new(self, wanted: Mapping[tuple[object, ...], Wanted]) -> None:
        """Check jobs that were not checked here yet; what is to be told of each is kept."""
        from jobs.rehearsal import rehearse  # noqa: PLC0415 - `status` needs none of it

        for each in wanted.values():
            with self._by_their_names(each):
                self.look(each.config, evaluated=each.evaluated, trains=each.trains)
        parts = {key: self._part(each) for key, each in wanted.items()}
        new = [part for part in dict.fromkeys(parts.values()) if ("part", part) not in self._known]
        # All of them by one process: it takes seconds.
        with self._by_their_names(*wanted.values()):
            for part, found in zip(new, rehearse(new, self._workspace), strict=True):
                self._known["part", part] = found
        for key, each in wanted.items():
            part = parts[key]
            with self._by_their_names(each):
                remarks = self._judge(each, part, self._known["part", part])
            self._known[key] = [self._renamed(remark, (each,)) for remark in remarks]

    def check_spec(self, spec: JobSpec, date: str, *, evaluated: bool = False) -> Arrays:
        """Check what a spec of this workspace names, for a job that is to do it (again).

        Returns:
            The arrays that its adapter has, by their names.

        Args:
            date: see :class:`Wanted`.
            evaluated: it is for an evaluation of what the spec trains.

        Raises:
            InvalidInput, WorkspaceError, JobFailed: as :meth:`check`; or its data are gone.
        """
        from jobs.config.config import config_from  # noqa: PLC0415 - as above

        evaluates = spec.evaluation is not None or evaluated
        files = [f for f in spec.frozen_files if f is not spec.init_from or not evaluates]
        for file in files:
            if not self._workspace.inside(file.path).exists():
                raise DataError(
                    f"The data of {spec.id} are gone: {file.source}.", "Enqueue it again."
                )
        config = config_from(spec.config, f"job.json of {spec.id}")
        names = {file.path: file.source for file in files}
        wanted = Wanted(config, date, evaluates, not evaluates, names)
        self.check([wanted])
        part = self._part(wanted)
        return self._adapter(config, part, self._known["part", part])

    def freeze(self, config: TrainConfig, names: Mapping[str, str] | None = None) -> Parts:
        """Freeze the data of a config that was checked; link its model, and fingerprint it.

        Args:
            names: see :class:`Wanted`.

        Raises:
            DataError: a data file cannot be read, or has changed meanwhile.
            WorkspaceError: the workspace cannot be written.
        """
        from jobs.model_store.place import linked, model_folder  # noqa: PLC0415 - `plan` needs no model
        from jobs.model_store.store import fingerprint  # noqa: PLC0415

        model = model_folder(self._workspace, config.model)
        train, valid = self._files.of(config)
        shown = self._shown(names or {})
        return Parts(
            self._frozen(train, config.prompt_format, shown),
            self._frozen(valid, config.prompt_format, shown) if valid else None,
            self._once(("linked", model), lambda: linked(self._workspace, config.model)),
            self._once(("fingerprint", model), lambda: fingerprint(model)),
            None if config.init_from is None else self._frozen_start(config.init_from),
        )

    def _judge(self, wanted: Wanted, part: Part, found: Rehearsed) -> list[str]:
        """Compare what a job wants with what its rehearsal found; return what to tell."""
        config = wanted.config
        if wanted.evaluated and found.model.unbatched:
            raise ModelError(found.model.unbatched, "Train it without an evaluation.")
        reach = self._reach(config, part, found)
        remarks = [*filter(None, [reach.warning]), *found.model.remarks]
        for (path, _), lengths in zip(part.files, found.lengths, strict=True):
            remarks += self._fit(path, lengths, config.max_seq_length, part)
        if wanted.trains:
            remarks += self._language(config)
            remarks += self._start_remarks(config, part, self._adapter(config, part, found))
        return remarks + self._room(wanted, part, found, reach)

    def _start(self, named: str) -> ForeignAdapter:
        """Return the adapter that ``init_from`` names, as it is now."""
        from daemon.submit.starting import adapter_named  # noqa: PLC0415 - as above

        return self._once(("start", named), lambda: adapter_named(named, self._workspace))

    def _start_remarks(self, config: TrainConfig, part: Part, arrays: Arrays) -> list[str]:
        """Check that a job can start from the adapter it names; return what to tell of that."""
        from jobs.model.starting_point import check_start  # noqa: PLC0415 - as above

        if config.init_from is None:
            return []
        said = check_start(self._start(config.init_from), arrays, config.lora, part.model)
        return [said] if said else []

    def _frozen_start(self, named: str) -> InitialAdapter:
        """Freeze the adapter as it was checked."""
        from daemon.submit.starting import frozen  # noqa: PLC0415 - as above

        return self._once(("kept", named), lambda: frozen(self._start(named), self._workspace))

    def _language(self, config: TrainConfig) -> list[str]:
        """Return what to tell of data that are not in the language of the prompt format."""
        from jobs.data.examples import scan_examples  # noqa: PLC0415 - as above
        from jobs.data.language import language_warning  # noqa: PLC0415

        path, style = self._files.of(config)[0], config.prompt_format
        said = self._once(
            ("language", path, style),
            lambda: language_warning((row for _, row in scan_examples(path)), style),
        )
        return [said] if said else []

    def _fit(self, path: Path, lengths: list[Length], limit: int, part: Part) -> list[str]:
        """Return what to tell of examples that are cut."""
        from jobs.data.fit import check_fit  # noqa: PLC0415 - as above

        key = ("fit", part, path, limit)
        said = self._once(key, lambda: check_fit(str(path), lengths, limit))
        return [said] if said else []

    def _reach(self, config: TrainConfig, part: Part, found: Rehearsed) -> Reach:
        """Return the layers that are adapted, by those that mlx-lm's own model has."""
        from daemon.submit.resources import reach_of  # noqa: PLC0415 - as above

        lora, model = config.lora, part.model
        key = ("reach", model, lora.num_layers, lora.keys, lora.kind)
        return self._once(key, lambda: reach_of(found, lora, str(model)))

    def _adapter(self, config: TrainConfig, part: Part, found: Rehearsed) -> Arrays:
        """Return the arrays of the adapter that a job makes."""
        from daemon.submit.resources import adapter_arrays  # noqa: PLC0415 - as above

        return adapter_arrays(found, self._reach(config, part, found), config.lora)

    def _room(self, wanted: Wanted, part: Part, found: Rehearsed, reach: Reach) -> list[str]:
        from daemon.submit.resources import ROOM_SETTINGS, RunUse, check_room  # noqa: PLC0415 - as above

        config, use = wanted.config, RunUse(wanted.trains, wanted.evaluated)
        # Earlier runs are known by the files that they trained on: by a part, where it was one.
        train, _ = self._files.of(config)
        data = config.data.model_copy(update={"train": str(train)})
        config = config.model_copy(update={"data": data})
        settings = (getattr(config, name) for name in ROOM_SETTINGS)
        return self._once(
            ("room", part, use, *settings),
            lambda: check_room(config, self._workspace, found, reach, use, shared=self._shared),
        )

    def _part(self, wanted: Wanted) -> Part:
        from jobs.data.tokenizer import TemplateSettings  # noqa: PLC0415
        from jobs.model_store.place import model_folder  # noqa: PLC0415 - as above
        from jobs.rehearsal import Part  # noqa: PLC0415

        config = wanted.config
        files = filter(None, self._files.of(config))
        return Part(
            model_folder(self._workspace, config.model),
            config.prompt_format,
            TemplateSettings.of(config, wanted.date),
            tuple((self._first_of(path), self._digest(path)) for path in files),
        )

    @contextmanager
    def _by_their_names(self, *wanted: Wanted) -> Iterator[None]:
        """Let errors call frozen data what their owner calls them."""
        try:
            yield
        except InvalidInput as error:
            message = self._renamed(error.message, wanted)
            if message == error.message:
                raise
            raise type(error)(message, error.hint) from error

    def _renamed(self, text: str, wanted: Sequence[Wanted]) -> str:
        for path, part in self._files.parts.items():
            text = text.replace(str(path), str(part.whole))
        for each in wanted:
            for path, name in self._shown(each.names).items():
                text = text.replace(str(path), name)
        return text

    def _shown(self, names: Mapping[str, str]) -> dict[Path, str]:
        return {self._workspace.root / path: name for path, name in names.items()}

    def check_questions(self, path: Path | None, style: PromptFormat) -> None:
        """Check that there is something to ask in a validation set.

        Raises:
            ConfigError, DataError: there is not.
        """
        if path is None:
            raise ConfigError(
                "An evaluation needs validation data, and the config names none.",
                "Add it: --set data.valid=data/valid.jsonl",
            )
        if not self._count(path, style).questions:
            raise DataError(
                f"{path} holds texts alone, and no questions: there is nothing to answer.",
                'An evaluation needs rows with {"prompt", "completion"} or {"messages"}.',
            )

    def _count(self, path: Path, prompt_format: PromptFormat) -> Count:
        # By the content: of a job that was just frozen it is known already.
        key = ("count", self._digest(path), prompt_format)
        return self._once(key, lambda: count(path, prompt_format))

    def _first_of(self, path: Path) -> Path:
        """Return the file in which the content of one was first met: a frozen one is no other."""
        return self._once(("first", self._digest(path)), lambda: path)

    def _digest(self, path: Path) -> str:
        return self._once(("digest", path), lambda: _sha256(path))

    def _frozen(
        self, path: Path, prompt_format: PromptFormat, shown: Mapping[Path, str]
    ) -> DataFile:
        counted, name = self._count(path, prompt_format).examples, self._name(path, shown)
        digest = self._digest(path)

        def frozen() -> DataFile:
            target = freeze(path, digest, self._workspace)
            relative = target.relative_to(self._workspace.root).as_posix()
            return DataFile(relative, digest, counted, name)

        return self._once(("frozen", path, name), frozen)

    def _name(self, path: Path, shown: Mapping[Path, str]) -> str:
        """Return what a person calls a data file, or a part of one."""
        if part := self._files.parts.get(path):
            return f"{part.share} of {self._name(part.whole, shown)}"
        return shown.get(path, path.name)

    def _once(self, key: tuple[object, ...], make: Callable[[], Result]) -> Result:
        if key not in self._known:
            self._known[key] = make()
        return cast(Result, self._known[key])


def _key(wanted: Wanted) -> tuple[object, ...]:
    """Return what tells a job from others, as far as it is checked."""
    config = wanted.config.model_copy(update=NOT_CHECKED)
    kind = wanted.evaluated, wanted.trains
    return ("checked", config, wanted.date, kind, *wanted.names.items())
