"""``farense config``: what a preset says, and how two differ."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from cli.completion import presets
from cli.options import json_option, preset_argument, preset_from, set_option
from cli.output import note, print_json, terminal_width, warn
from cli.show.table import aligned, column_widths
from jobs.config.lora_keys import described
from jobs.errors import ConfigError, DataError, InvalidInput, ModelError
from jobs.model_store.folder import check_lora
from jobs.model_store.place import model_folder
from jobs.paths import Workspace
from jobs.storage.formatting import counted

if TYPE_CHECKING:
    from jobs.config.config import LoraConfig, Preset, TrainConfig
    from jobs.config.lora_keys import Reach
    from jobs.config.step_plan import Schedule


MIN_DELTA = (
    "# early_stopping_min_delta counts for patience alone: the adapter of the lowest validation is "
    "kept"
)
# The learning rate as it is drawn: so many updates of the run, each as high as its rate.
DRAWN_UPDATES = 48
BARS = "▁▂▃▄▅▆▇█"


@click.group(short_help="Show and compare configurations.")
def config() -> None:
    """Show and compare configurations.

    \b
    Example: farense config diff v1 v2
    """


@config.command()
@preset_argument
@set_option
@json_option
def show(preset: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print a configuration with every default filled in.

    PRESET is a name or a YAML file. What is printed is a config file itself. Where the data is
    there, it ends with the number of steps and validations the run will have; where the model is,
    with the layers that will be adapted.

    \b
    Example: farense config show v2 --set learning_rate=1e-4
    """
    loaded = preset_from(preset, overrides)
    schedule, missing = plan_of(loaded)
    patience = loaded.config.early_stopping_patience
    warning = foreseen_of(loaded.config, schedule) if schedule else None
    reach, of_layers = adapted(loaded.config)
    if as_json:
        shown = loaded.model_dump(mode="json")
        plan = {"plan": schedule and plan_json(schedule), "warning": warning}
        curve = {"learning_rate": schedule and rates(loaded.config, schedule)}
        print_json({**shown, **plan, **curve, "adapted_layers": reach.adapted if reach else None})
    else:
        click.echo(f"# {loaded.name}: {loaded.description or 'no description'}")
        if loaded.made_from:
            click.echo(f"# made from: {', '.join(loaded.made_from)}")
        click.echo(as_yaml(loaded.config), nl=False)
        if loaded.config.early_stopping_min_delta:
            click.echo(MIN_DELTA)
        click.echo(f"# {plan_text(schedule, patience) if schedule else missing}")
        if schedule:
            click.echo(f"# learning rate: {rate_text(loaded.config, schedule)}")
        if loaded.config.lora.alpha is not None:
            click.echo(f"# {factor_text(loaded.config.lora)}")
        if reach:
            click.echo(f"# adapted: {described(reach.adapted)}")
    for remark in filter(None, (warning, of_layers)):
        warn(remark)


@config.command()
@click.argument("a", shell_complete=presets)
@click.argument("b", shell_complete=presets)
@json_option
def diff(a: str, b: str, as_json: bool) -> None:
    """Print the settings in which two configurations differ, and why.

    A and B are presets or YAML files; the reasons are those that the preset B gives, else A.

    \b
    Example: farense config diff v1 v2
    """
    from cli.show.differences import cells, paired  # noqa: PLC0415 - loads YAML
    from jobs.config.differences import differences  # noqa: PLC0415 - loads YAML

    first, second = preset_from(a), preset_from(b)
    why = second.why or first.why
    configs = first.config.model_dump(), second.config.model_dump()
    if as_json:
        print_json([asdict(row) for row in differences(*configs, why)])
        return
    rows = [cells(row) for row in paired(*configs, why)]
    if not rows:
        note(f"{a} and {b} have the same settings.")
        return
    for line in diff_lines((first.name, second.name), rows):
        click.echo(line)


def diff_lines(names: tuple[str, str], rows: list[list[str]]) -> list[str]:
    """Return the table of differences; on a narrow terminal the reason moves to its own line."""
    table = [["SETTING", *names, "WHY"], *rows]
    widths = column_widths(table)
    width = terminal_width()
    if width is None or sum(widths) + 6 <= width:
        return [aligned(row, widths) for row in table]
    lines = [aligned(table[0][:3], widths[:3])]
    for row in rows:
        lines.append(aligned(row[:3], widths[:3]))
        lines += [f"    {row[3]}"] if row[3] else []
    return lines


def plan_of(preset: Preset) -> tuple[Schedule | None, str]:
    """Return the schedule of a run; where the data cannot be read, None and why."""
    from daemon.submit.placing import plan  # noqa: PLC0415 - loads what only this needs

    try:
        return plan(preset, Workspace.current()), ""
    except DataError as error:
        return None, f"steps and validations are not known: {error.message.splitlines()[0]}"


def adapted(config: TrainConfig) -> tuple[Reach | None, str | None]:
    """Return the layers that a config adapts, where its model is there, and what to know of it."""
    try:
        reach = check_lora(model_folder(Workspace.current(), config.model), config.lora)
    except ConfigError as error:
        return None, " ".join(filter(None, (error.message, error.hint)))
    except (ModelError, InvalidInput):
        return None, None
    return reach, reach.warning if reach else None


def foreseen_of(config: TrainConfig, schedule: Schedule) -> str | None:
    """Return what will not come about in a run; see :func:`jobs.training.foreseen.foreseen`."""
    from jobs.training.foreseen import foreseen  # noqa: PLC0415 - loads pydantic

    return foreseen(config, schedule)


def plan_text(schedule: Schedule, patience: int | None) -> str:
    """Return how long a run is, how often it validates, and when it can stop at the earliest."""
    validations = schedule.validation_steps
    text = (
        f"{counted(schedule.examples, 'example')}: {counted(schedule.steps_per_epoch, 'step')} an "
        f"epoch, {counted(schedule.total_steps, 'step')}, {counted(len(validations), 'validation')}"
    )
    if patience is None or len(validations) <= patience:
        return text
    return f"{text}; early stopping at step {validations[patience]} at the earliest"


def factor_text(lora: LoraConfig) -> str:
    """Return how much an adapter counts, where its config gives an alpha."""
    rank = f"sqrt({lora.rank})" if lora.rslora else f"{lora.rank}"
    return f"scale: {lora.alpha:g} / {rank} = {lora.factor:.4g}"


def rate_text(config: TrainConfig, schedule: Schedule) -> str:
    """Return the learning rate over a run, drawn and with its highest and last value."""
    from cli.show.differences import value_text  # noqa: PLC0415 - loads YAML

    curve = rates(config, schedule)
    highest = max(curve.values())
    first = next(step for step, rate in curve.items() if rate == highest)
    drawn = "".join(BARS[round(rate / highest * (len(BARS) - 1))] for rate in curve.values())
    last = curve[schedule.total_steps]
    return (
        f"{drawn}  {value_text(highest)} from step {first}"
        f"{'' if last == highest else f', {value_text(last or 0)} at the last'}"
    )


def rates(config: TrainConfig, schedule: Schedule) -> dict[int, float]:
    """Return the learning rate of some updates, the last among them, by the step they end with."""
    from jobs.training.learning_rate import learning_rate, warmup_steps  # noqa: PLC0415 - as above

    total = schedule.total_updates
    shown = min(total, DRAWN_UPDATES)
    updates = {1 + (total - 1) * n // max(shown - 1, 1) for n in range(shown)}
    full = min(max(warmup_steps(config, schedule), 1), schedule.total_steps)
    steps = sorted({schedule.last_step(update) for update in updates | {schedule.updates(full)}})
    return {step: learning_rate(config, schedule, step) for step in steps}


def plan_json(schedule: Schedule) -> dict[str, int]:
    """Return the figures of a schedule."""
    return {
        "examples": schedule.examples,
        "steps_per_epoch": schedule.steps_per_epoch,
        "total_steps": schedule.total_steps,
        "updates": schedule.total_updates,
        "validations": len(schedule.validation_steps),
    }


def as_yaml(config: TrainConfig) -> str:
    """Return a config as the text of a config file."""
    import yaml  # noqa: PLC0415 - only this writes YAML

    class Dumper(yaml.SafeDumper):
        """Writes lists on one line."""

    def flow_list(dumper: yaml.SafeDumper, value: tuple[str, ...]) -> yaml.Node:
        return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)

    Dumper.add_representer(tuple, flow_list)
    return yaml.dump(
        config.model_dump(), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120
    )
