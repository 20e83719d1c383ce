"""One attempt at one job: from the frozen spec to a trained adapter."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

from jobs import caches
from jobs.backend.backend import backend
from jobs.backend.environment import environment
from jobs.backend.mlx import mx
from jobs.config.config import TrainConfig, config_from
from jobs.data.token_cache import encoded
from jobs.data.tokenize import TokenizedExample, cut, examples_input
from jobs.data.tokenizer import TemplateSettings, Tokenizer
from jobs.errors import DataError, FarenseError, ModelError, WorkspaceError
from jobs.events import Compiled, Event, Failed, Finished, PhaseBegan, Started, Warned
from jobs.model.adapter_fit import Arrays, fitting
from jobs.model.base_model import BaseModel
from jobs.model.load import adapter_config, load_tokenizer
from jobs.model_store.digest import weights_digest
from jobs.model_store.folder import check_unchanged
from jobs.paths import RunDirectory, Workspace
from jobs.prefix.cache import FillStopped, PrefixCache
from jobs.prefix.prefix import Prefix, PrefixStates
from jobs.prefix.states_cache import StatesCache
from jobs.resources.preflight import check_disk, disk_needed, memory_limits, memory_warning
from jobs.resources.ways import Room, Way, chosen_text, ways
from jobs.spec import DataFile, InitialAdapter, JobSpec
from jobs.storage.files import read_json, sha256_of
from jobs.training.baseline import Baseline
from jobs.training.batches import BatchPlan, Source
from jobs.training.best_adapter import BestAdapter
from jobs.training.checkpoint import newest_checkpoint
from jobs.training.engine import Engine
from jobs.training.fitting import first_fitting
from jobs.training.summary import Losses, write_summary
from jobs.training.trainer import Trainer

Emit = Callable[[Event], None]
Stop = Callable[[], str | None]
Examples = tuple[TokenizedExample, ...]


def train(
    workspace: Workspace,
    spec: JobSpec,
    emit: Emit,
    stop_reason: Stop,
    splits: int = 0,
    ending: Stop = lambda: None,
) -> Finished | None:
    """Run a training job from its beginning or its newest checkpoint.

    Args:
        splits: how often each micro-batch is halved, after attempts that ran out of memory.
        ending: returns who wants the run to end early, with what it has reached; or None.

    Returns:
        How it ended; None when asked to stop (what was done is kept).

    Raises:
        FarenseError: the spec cannot be carried out, or the work failed.
    """
    return Session(workspace, spec, emit, stop_reason, splits).train(ending)


class Session:
    """What one attempt works with; see :func:`train`."""

    def __init__(
        self, workspace: Workspace, spec: JobSpec, emit: Emit, stop_reason: Stop, splits: int
    ) -> None:
        self.workspace, self.spec, self.splits = workspace, spec, splits
        self.emit, self.stop_reason = emit, stop_reason
        self.run = workspace.run(spec.id)
        self.config: TrainConfig = config_from(spec.config, str(self.run.job))
        self.model_path = workspace.model(self.config.model)
        check_unchanged(self.model_path, spec.model_fingerprint)
        self.lanes = backend().lanes(max(self.config.batch_size, self.config.gradient_accumulation))
        self.computing = self.lanes
        self.way = Way(len(self.lanes), bool(self.config.grad_checkpoint))
        self.versions = environment() | {"splits": str(splits)}
        # Loaded once, and only if some data file is not in the cache of tokens.
        self.template = TemplateSettings.of(self.config, spec.prompts_written_on)
        tokenizer = functools.cache(partial(load_tokenizer, self.model_path, self.template))
        self.examples = [self._load(file, tokenizer) for file in (spec.train, spec.valid) if file]
        self.base = BaseModel(self.model_path, self.config)
        self.cache: StatesCache | None = None
        self.states: Sequence[PrefixStates | None] = [None] * len(self.examples)

    def train(self, ending: Stop) -> Finished | None:
        """Run the job to its end; None when asked to stop."""
        checkpoint = newest_checkpoint(self.run, self._warn)
        if checkpoint and (kept := Way.from_versions(checkpoint.versions)):
            self._take(replace(kept, streams=min(kept.streams, len(self.lanes))))
        batches = self._batches()
        self.base.load()
        engine = self._engine()
        if self.spec.init_from is not None:
            engine.adapter = self._start_of(self.spec.init_from, engine)
        settings = adapter_config(self.config.lora, self.base.reach.paths, self.config.model)
        best = BestAdapter(self.run.adapters, settings)
        told = self._baseline, self.versions, self.emit, self.stop_reason, ending
        trainer = Trainer(self.run, self.config, engine, batches, best, *told)
        self.emit(self._started(batches, engine, trainer.resume(checkpoint)))
        if warning := self.base.reach.warning:
            self._warn(warning)
        self._check_room(engine, batches)
        try:
            self._fill(ending)
        except FillStopped:
            outcome = trainer.finish() if ending() and not self.stop_reason() else None
        else:
            self._fit_into_memory(trainer, chosen=checkpoint is not None)
            outcome = trainer.run()
        if outcome:
            write_summary(self.run, outcome, self.spec, self.versions)
            self.emit(outcome)
        return outcome

    def measuring(self) -> tuple[Engine, BatchPlan]:
        """Return what measures the validation loss exactly as training does; for no other use."""
        states, valid = None, self.examples[1]
        if self.base.language.chain is not None:
            self.base.verify()
        if self.base.language.prefix is not None:
            prefix = Prefix(self.base.language.prefix, self.base.load_below, self.lanes)
            states = PrefixStates(prefix, valid, self._warn)
        source = Source(valid, states)
        batches = BatchPlan(source, source, self.config, self.lanes, self.splits)
        return self._engine(), batches

    def _start_of(self, start: InitialAdapter, engine: Engine) -> Arrays:
        """Return the adapter that the job starts from, as it was frozen; MLX reads it whole.

        Raises:
            ModelError: it was changed or removed meanwhile.
        """
        path = self.workspace.inside(start.path)
        try:
            if sha256_of(path) != start.sha256:
                raise ValueError("its content is another")
            arrays = fitting(cast(Arrays, mx.load(str(path))), engine.adapter)
            mx.eval(arrays)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"The adapter of {start.source} that this job starts from was damaged or removed "
                f"after the job was queued ({path}: {error}).",
                "Queue it again: farense enqueue.",
            ) from error
        return arrays

    def _engine(self) -> Engine:
        """Return what computes steps, by shortcuts where those give the same result."""
        if left_out := self.base.settle():
            self._warn(
                f"The plain way is taken instead of {' and '.join(left_out)}: "
                "with this architecture the result is another."
            )
        engine = Engine(self.base.language, self.base.noise, self.computing, self.config)
        if why := engine.settle(self.base.probe_inputs()):
            self._warn(f"The plain way is taken instead of a compiled step: {why}.")
        return engine

    def _batches(self) -> BatchPlan:
        """Return the batches of the run: of prefix states where the model can be cut."""
        if self.base.language.prefix is not None:
            prefix = Prefix(self.base.language.prefix, self.base.load_below, self.lanes)
            states = [PrefixStates(prefix, rows, self._warn) for rows in self.examples]
            self.states = states
            batches = self._batches_now()
            self.cache = self._open_cache(prefix, states, batches)
            if self.cache and self.cache.is_whole:
                return batches
        if self.base.language.chain is not None:
            # Blocks one by one are tried out before anything is computed with them.
            self.base.verify()
            if self.base.language.prefix is not None:
                return batches
        self.cache = None
        self._warn(f"Training without the prefix cache: {self.base.language.whole_because}.")
        if self.config.grad_checkpoint and self.base.language.chain is None:
            self._warn("grad_checkpoint has no effect on this architecture.")
        self.states = [None] * len(self.examples)
        return self._batches_now()

    def _batches_now(self) -> BatchPlan:
        """Return the batches, for the way of computing that is taken."""
        train, *valid = map(Source, self.examples, self.states)
        how = self.config, self.lanes, self.splits, self.way
        return BatchPlan(train, valid[0] if valid else None, *how)

    def _take(self, way: Way) -> None:
        """Compute in another way than the plain one: what is compiled from now on."""
        self.way, self.computing = way, self.lanes.fewer(way.streams)
        self.computing.take_blas()
        self.base.compute_again(way.again)
        self.versions = environment() | {"splits": str(self.splits)} | way.as_versions()

    def _open_cache(
        self, prefix: Prefix, states: list[PrefixStates], batches: BatchPlan
    ) -> StatesCache | None:
        budget = self.config.prefix_cache_gb
        if budget == 0:
            self._warn("Training without the prefix cache: prefix_cache_gb is 0.")
            return None
        boundary = self.base.boundary
        inputs: dict[str, bytes | str] = {
            "weights": weights_digest(self.model_path, self.workspace.weight_digests),
            "model files": caches.model_files_input(self.model_path),
            "boundary": str(boundary),
            "form": self.base.form,
            "packages": caches.mapping_input({n: self.versions[n] for n in ("mlx", "mlx-lm")}),
            "machine": caches.mapping_input(
                {n: self.versions[n] for n in ("device", "cpu", "blas")}
            ),
            "threads": str(self.lanes.blas_threads),
        }
        about = {"model": self.model_path.name, "boundary": f"{boundary} blocks"}
        entries = PrefixCache(self.workspace.prefix_cache, budget)
        cache = StatesCache(prefix, entries, inputs, about, self.emit)
        cache.add(self.spec.train.source, states[0], batches.used_rows())
        for valid in states[1:]:
            name = self.spec.valid.source if self.spec.valid else ""
            cache.add(name, valid, range(len(valid.examples)))
        cache.open()
        return cache

    def _baseline(self, measure: Callable[[], Losses]) -> Losses:
        """Return the losses before training: as another job has measured them, or measured now."""
        inputs: dict[str, bytes | str] = {
            "examples": examples_input(self.examples),
            "weights": weights_digest(self.model_path, self.workspace.weight_digests),
            "model files": caches.model_files_input(self.model_path),
            "settings": caches.settings_input(self.config),
            "form": self.base.form,
            "cut": str(self.base.language.prefix is not None),
            "environment": caches.mapping_input(self.versions),
            "lanes": f"{len(self.computing)} of {len(self.lanes)}, "
            f"{self.computing.blas_threads} threads each",
            "code": caches.code_input(),
        }
        key = caches.key_of(caches.BASELINE, inputs)
        return Baseline(self.workspace.baselines, key).losses(measure)

    def _fill(self, ending: Stop) -> None:
        """Compute what the cache lacks, then give back the memory that took.

        Raises:
            FillStopped: asked to stop.
        """
        if self.cache is None or self.cache.is_whole:
            return
        if self.cache.fill(lambda: self.stop_reason() or ending()):
            self.cache.forget_weights()
            self.base.unload_below()

    def _check_room(self, engine: Engine, batches: BatchPlan) -> None:
        """Compare what the run will need on disk with what is free; the cache is let go first.

        Raises:
            WorkspaceError: it will not fit.
        """
        needed = partial(
            disk_needed,
            self.config,
            batches.schedule,
            adapter_bytes=sum(array.nbytes for array in engine.adapter.values()),
            state_bytes=sum(array.nbytes for array in engine.state().values()),
        )
        cache_bytes = self.cache.missing_bytes if self.cache else 0
        try:
            warning = check_disk(self.run.path, needed(cache_bytes=cache_bytes))
        except WorkspaceError as error:
            warning = check_disk(self.run.path, needed())
            self.cache = None
            self._warn(f"Training without the prefix cache: {error.message}")
        if warning:
            self._warn(warning)

    def _fit_into_memory(self, trainer: Trainer, *, chosen: bool) -> None:
        """Try steps of the largest shapes, and take the first way of computing that fits.

        Args:
            chosen: an attempt before this one did, or took the plain way: it is kept.

        Raises:
            OutOfMemory: it takes more memory than there is.
        """
        self.emit(PhaseBegan("compiling kernels"))
        engine = trainer.engine

        def compute(way: Way) -> tuple[Engine, BatchPlan]:
            if way != self.way:
                before = self.way
                self._take(way)
                if replace(before, halvings=way.halvings) != way:
                    self.base.settle()
                    engine.use(self.base.language, self.computing)
                    engine.settle(self.base.probe_inputs())
                trainer.compute_as(self._batches_now(), self.versions)
            return engine, trainer.batches

        room = Room(memory_limits(*backend().memory()), self.config.memory_bytes)
        found = first_fitting([self.way] if chosen else self._ways(), compute, room, kept=chosen)
        self.emit(Compiled(engine.traces, round(engine.compile_seconds, 1)))
        if not found.plain:
            self._warn(chosen_text(found.tried, found.way, room))
        if warning := memory_warning(found.needed, room.limits.available):
            self._warn(warning)

    def _ways(self) -> list[Way]:
        """Return the ways of computing that this model knows, the plain one first."""
        again = self.config.grad_checkpoint
        if again is None and self.base.language.chain is None:
            again = False
        return ways(len(self.lanes), again)

    def _load(self, file: DataFile, tokenizer: Callable[[], Tokenizer]) -> Examples:
        path = self.workspace.inside(file.path)
        try:
            tokens = encoded(
                path,
                file.sha256,
                self.model_path,
                self.config.prompt_format,
                tokenizer,
                self.workspace.token_cache,
                self.template,
            )
        except DataError as error:
            # By the name that its owner knows it by, not by that of our copy.
            message = error.message.replace(str(path), file.source)
            raise DataError(message, error.hint) from error
        data = cut(
            tokens,
            mask_prompt=self.config.loss_on != "everything",
            max_seq_length=self.config.max_seq_length,
        )
        longest = self.config.max_seq_length
        if not data.examples:
            raise DataError(
                f"{file.source}: no example is left once cut to max_seq_length ({longest}).",
                "Raise max_seq_length.",
            )
        if data.truncated or data.left_out:
            self._warn(
                f"max_seq_length {longest} cuts {data.truncated} examples short and "
                f"leaves out {data.left_out} whose answer would be cut away entirely."
            )
        return data.examples

    def _warn(self, text: str) -> None:
        self.emit(Warned(text))

    def _started(self, batches: BatchPlan, engine: Engine, resumed_step: int) -> Started:
        return Started(
            pid=os.getpid(),
            preset=self.spec.preset,
            model=self.model_path.name,
            device=f"{backend().describe()}, weights {self.base.form}",
            total_steps=batches.schedule.total_steps,
            steps_per_epoch=batches.schedule.steps_per_epoch,
            num_epochs=self.config.num_epochs,
            validations=len(batches.schedule.validation_steps),
            train_examples=batches.schedule.examples,
            valid_examples=batches.validation_examples,
            trainable_parameters=sum(array.size for array in engine.adapter.values()),
            config=self.spec.config,
            resumed_step=resumed_step,
            adapted_layers=self.base.reach.adapted,
            init_from=self.spec.init_from.source if self.spec.init_from else None,
            valid_data=self.spec.valid.source if self.spec.valid else None,
        )


def write_failure(run: RunDirectory, spec: JobSpec, emit: Emit, error: Exception) -> None:
    """Write the summary of a run that failed, and say so; what can be saved already was."""
    message = error.message if isinstance(error, FarenseError) else f"{error}"
    hint = error.hint if isinstance(error, FarenseError) else None
    step = 0
    with contextlib.suppress(OSError, ValueError, KeyError):
        step = read_json(run.training_state)["step"]
    failed = Failed(step, type(error).__name__, " ".join(filter(None, (message, hint))))
    # On a full disk neither may succeed; the exit code still tells.
    with contextlib.suppress(WorkspaceError):
        write_summary(run, failed, spec, environment())
    with contextlib.suppress(WorkspaceError):
        emit(failed)
