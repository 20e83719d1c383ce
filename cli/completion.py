"""What a shell is told when somebody presses Tab: jobs, sweeps, presets, settings.

All of it comes from names of files and from ``state.json``: no server is asked or started, and
nothing is loaded that takes long. A shell asks anew at each Tab, and waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from cli.sweep_files import known_files
from jobs.paths import JOB_ID, REPOSITORY, Workspace
from jobs.storage.files import read_json
from jobs.sweep.paths import sweeps_of

if TYPE_CHECKING:
    from jobs.paths import RunDirectory

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]

# Jobs that are looked at, newest first.
NEWEST = 200

# The settings of a config; a test holds them equal to those that there are. Asking the config
# itself would load pydantic, which takes longer than a Tab may.
SETTINGS = (
    "model",
    "data.train",
    "data.valid",
    "prompt_format",
    "chat_template",
    "thinking",
    "loss_on",
    "mask_prompt",
    "lora.kind",
    "lora.rank",
    "lora.scale",
    "lora.alpha",
    "lora.rslora",
    "lora.dropout",
    "lora.num_layers",
    "lora.keys",
    "init_from",
    "batch_size",
    "gradient_accumulation",
    "learning_rate",
    "optimizer",
    "adam_bias_correction",
    "weight_decay",
    "lr_schedule",
    "min_learning_rate",
    "warmup_steps",
    "warmup_ratio",
    "num_epochs",
    "max_steps",
    "max_seq_length",
    "seed",
    "save_steps",
    "eval_steps",
    "log_steps",
    "early_stopping_patience",
    "early_stopping_min_delta",
    "keep_checkpoints",
    "gap_examples",
    "max_grad_norm",
    "memory",
    "grad_checkpoint",
    "on_divergence",
    "on_oom",
    "prefix_cache_gb",
    "stall_minutes",
    "max_hours",
    "trackers",
)


def jobs_in(*states: str) -> Complete:
    """Return a completion of the newest jobs, their names and ``latest``.

    Args:
        states: which jobs; all where none are given.
    """

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        given = ctx.params.get(param.name or "")
        typed = given if isinstance(given, tuple) else ()
        found = [item for item in _jobs(states) if item.value not in typed]
        if found and "latest" not in typed:
            found.append(CompletionItem("latest", help="the newest training job that this can use"))
        # Nobody types the time with which an id begins: its end will do.
        return _beginning(found, incomplete) or [i for i in found if incomplete in i.value]

    return complete


def sweeps(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Complete the sweeps of the workspace."""
    folder = sweeps_of(Workspace.current())
    names = _names(folder.iterdir()) if folder.is_dir() else []
    found = [CompletionItem(name) for name in names if JOB_ID.fullmatch(name)]
    return _beginning(found, incomplete) or [i for i in found if incomplete in i.value]


def presets(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Complete the presets, else the paths of files."""
    folders = (Workspace.current().configs, REPOSITORY / "configs")
    names = {path.stem for folder in folders for path in folder.glob("*.yaml")}
    found = _beginning([CompletionItem(name) for name in sorted(names)], incomplete)
    return found or [CompletionItem(incomplete, type="file")]


def sweep_files(incomplete: str) -> list[CompletionItem[str]]:
    """Complete the sweep files of the workspace and the repository, else the paths of files."""
    names = sorted({str(path) for path in known_files()})
    return _beginning([CompletionItem(name) for name in names], incomplete) or [
        CompletionItem(incomplete, type="file")
    ]


def settings(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Complete the name of a setting, up to the sign before its value."""
    return _beginning([CompletionItem(f"{name}=") for name in SETTINGS], incomplete)


def _jobs(states: tuple[str, ...]) -> Iterator[CompletionItem[str]]:
    """Yield the newest jobs by their ids, and those with names by these, too."""
    workspace = Workspace.current()
    try:
        names = _names(workspace.runs.iterdir())
    except OSError:
        return
    for name in [name for name in names if JOB_ID.fullmatch(name)][:NEWEST]:
        state, called = _state_and_name(workspace.run(name))
        if state is None or (states and state not in states):
            continue
        yield CompletionItem(name, help=f"{state} {called or ''}".rstrip())
        if called and not any(letter.isspace() for letter in called):
            yield CompletionItem(called, help=f"{state} {name}")


def _state_and_name(run: RunDirectory) -> tuple[str | None, str | None]:

    try:
        state: Any = read_json(run.state).get("state")
        called: Any = read_json(run.job).get("name")
    except (OSError, ValueError, AttributeError):
        return None, None
    return (
        state if isinstance(state, str) else None,
        called if isinstance(called, str) and called.isprintable() else None,
    )


def _names(paths: Iterable[Any]) -> list[str]:
    return sorted((path.name for path in paths), reverse=True)


def _beginning(found: Iterable[CompletionItem[str]], text: str) -> list[CompletionItem[str]]:
    return [item for item in found if item.value.startswith(text)]
