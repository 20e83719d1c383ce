"""What `farense doctor` looks at for one preset: its model, its data, and the plan they make."""

from __future__ import annotations

import shlex
from pathlib import Path

from daemon.doctor.findings import Finding, ok, problem, warning
from daemon.submit.data_files import named_files
from daemon.submit.starting import adapter_named
from jobs.config.config import TrainConfig
from jobs.config.lora_keys import described
from jobs.config.share import percent
from jobs.data.check import DataReport, FileReport
from jobs.data.check import check as check_data
from jobs.data.tokenizer import TemplateSettings, Tokenizer
from jobs.model.starting_point import check_start
from jobs.model_store.architectures import check_trainable
from jobs.model_store.folder import check_lora, check_model, folder_bytes
from jobs.paths import Workspace
from jobs.resources.estimate import DataSize
from jobs.storage.formatting import size_text
from jobs.training.foreseen import foreseen

SHOWN = 5


def model_finding(folder: Path) -> Finding:
    """Tell whether the model is whole and of an architecture that can be trained.

    Raises:
        ModelError: it is missing, damaged, asks for code of its own, or cannot be trained.
    """
    check_model(folder)
    check_trainable(folder, ())
    link = f", a link to {folder.readlink()}" if folder.is_symlink() else ""
    return ok("model", f"{folder.name} is complete ({size_text(folder_bytes(folder))}){link}")


def adapter_finding(folder: Path, config: TrainConfig) -> Finding:
    """Tell which layers of a whole model are to be adapted.

    Raises:
        ConfigError: it lacks layers that the config names, or they cannot be adapted.
    """
    check_trainable(folder, config.lora.keys)
    reach = check_lora(folder, config.lora)
    if reach is None:
        return ok("adapter", "its layers are named otherwise than usual: the job itself will tell")
    if reach.warning:
        fact, _, action = reach.warning.partition(". ")
        return warning("adapter", f"{fact}. Adapted: {described(reach.adapted)}.", action)
    return ok("adapter", f"reaches {described(reach.adapted)}")


def load_lazily(folder: Path, config: TrainConfig) -> Tokenizer:
    """Load a model that was checked, but none of its weights; return its tokenizer. Imports MLX.

    Raises:
        ModelError: mlx-lm knows no such architecture, or cannot load the weights or the tokenizer.
        ConfigError: DoRA cannot adapt one of the layers.
    """
    from jobs.model.adapter_fit import fresh_adapter  # noqa: PLC0415 - takes two seconds
    from jobs.model.load import load_tokenizer  # noqa: PLC0415 - as above

    fresh_adapter(folder, config.lora)
    return load_tokenizer(folder, TemplateSettings.of(config, None))


def start_finding(folder: Path, config: TrainConfig, named: str, workspace: Workspace) -> Finding:
    """Tell whether training can start from the adapter that is named. Imports MLX.

    Raises:
        InvalidInput: there is none, or it has another shape, scale or model.
    """
    from jobs.model.adapter_fit import fresh_adapter  # noqa: PLC0415 - as above

    adapter = adapter_named(named, workspace)
    said = check_start(adapter, fresh_adapter(folder, config.lora), config.lora, folder)
    source = f"starts from the adapter of {adapter.origin.source} ({adapter.origin.form})"
    return warning("start", f"{source}.", said) if said else ok("start", source)


def data_report(
    config: TrainConfig, workspace: Workspace, tokenizer: Tokenizer | None
) -> DataReport:
    """Return what the preset's data files hold.

    Raises:
        DataError: a file is missing or unreadable.
    """
    train, *valid = named_files(config, workspace)
    return check_data(
        train,
        valid[0] if valid else None,
        tokenizer,
        prompt_format=config.prompt_format,
        max_seq_length=config.max_seq_length,
        share=percent(config.data.valid or ""),
        seed=config.seed,
    )


def data_finding(report: DataReport) -> Finding:
    """Tell whether a job would take the data, and what a person should know of it."""
    files = [file for file in (report.train, report.valid) if file]
    for file in files:
        if not file.usable:
            return problem("data", _unusable(file, report), _details(report))
    names = ("for training", "for validation")
    counts = " and ".join(
        f"{file.examples} examples {name}" for file, name in zip(files, names, strict=False)
    )
    remarks = [remark for file in files if (remark := _remark(file))]
    remarks += report.prompt_warnings
    if remarks:
        return warning("data", f"{counts}; {'; '.join(remarks)}.", _details(report))
    return ok("data", counts)


def _unusable(file: FileReport, report: DataReport) -> str:
    if file.problems:
        first = file.problems[0]
        more = f" ({len(file.problems)} bad lines in all)" if len(file.problems) > 1 else ""
        return f"{file.path}, line {first.line}: {first.reason}{more}"
    if not file.examples:
        return f"{file.path} holds no example."
    return f"No example of {file.path} fits max_seq_length ({report.max_seq_length})."


def _remark(file: FileReport) -> str | None:
    """Return what the data check warns of, but for leakage."""
    lengths = file.lengths
    counted = (
        (len(file.duplicates), "duplicate(s)"),
        (len(file.near_duplicates), "near duplicate(s)"),
        (len(file.conflicts), "question(s) with several answers"),
        ((lengths and lengths.truncated) or 0, "cut short by max_seq_length"),
        ((lengths and lengths.left_out) or 0, "left out by max_seq_length"),
    )
    said = [f"{count} {what}" for count, what in counted if count]
    said += [f"{len(remark.lines)} lines: {remark.text}" for remark in file.remarks]
    return f"{file.path.name}: {', '.join(said)}" if said else None


def leakage_finding(report: DataReport) -> Finding:
    """Tell whether validation measures what training has not seen."""
    if report.valid is None:
        return warning(
            "leakage",
            "There is no validation data: overfitting cannot be seen.",
            "Set data.valid to a file of examples that are not trained on.",
        )
    same, asked = report.leaked_examples, report.leaked_questions
    if not same and not asked:
        return ok("leakage", "no validation example is trained on")
    lines = [str(leak.valid_line) for leak in (*same, *asked)]
    shown = ", ".join(lines[:SHOWN]) + (" ..." if len(lines) > SHOWN else "")
    return warning(
        "leakage",
        f"{_leaks(len(same), len(asked))} are in the training file too "
        f"({report.valid.path.name}, line {shown}): validation loss looks too good.",
        f"Take them out of one of the files. {_details(report)}",
    )


def _leaks(same: int, asked: int) -> str:
    """Return what of the validation data is trained on: whole examples, questions, or both."""
    examples = f"{same} validation example(s)" if same else ""
    questions = f"the questions of {asked} {'more' if same else 'validation example(s)'}"
    return " and ".join(filter(None, (examples, questions if asked else "")))


def plan_finding(config: TrainConfig, examples: int) -> Finding:
    """Tell how long the run is, and whether its early stopping can engage."""
    schedule = config.schedule(examples)
    if text := foreseen(config, schedule):
        fact, _, action = text.partition(". ")
        return warning("plan", f"{fact}.", action)
    count = len(schedule.validation_steps)
    return ok("plan", f"{schedule.total_steps} steps, {count} validation(s)")


def data_size(report: DataReport, config: TrainConfig) -> DataSize:
    """Return how large the examples are; where tokens are not known, the most there can be."""
    limit = config.max_seq_length
    tokens, longest = 0.0, 0
    for file in (report.train, report.valid):
        if file is None or file.lengths is None:
            continue
        known = file.lengths.unit == "tokens"
        tokens += file.examples * (min(file.lengths.mean, limit) if known else limit)
        if file is report.train:
            longest = min(file.lengths.longest, limit) if known else limit
    lengths = report.train.lengths
    masked = config.loss_on != "everything" and lengths is not None
    learned = lengths.mean_completion / lengths.mean if masked and lengths else 1.0
    return DataSize(int(tokens), longest, learned)


def _details(report: DataReport) -> str:
    """Return the command that tells everything about the data."""
    command = ["farense", "data", "check", str(report.train.path)]
    if report.valid:
        command += ["--valid", report.valid.part or str(report.valid.path)]
    return f"Details: {shlex.join(command)}"
