"""Train every architecture that mlx-lm has, and compare with what plain mlx-lm computes.

Each is tiny, random and in 4 bits (see :mod:`benchmarks.families`), and has a process of its own.
farense trains it twice, the second time from its caches; plain mlx-lm (its own layers and
functions, nothing cut, nothing compiled) takes the same steps from the same start. An architecture
trains rightly where the loss before training, that of the first step and that of the adapter agree
to 1e-4, mlx-lm measures the same loss with the adapter that farense saved, and both runs of farense
saved the same bits. One that is refused must be refused before anything is built.

    python -m benchmarks.architectures                  # all: into results/ and docs/models.md
    python -m benchmarks.architectures llama gemma3n    # these, nothing is written there
    python -m benchmarks.architectures --keep           # goes on: those that another code measured
    python -m benchmarks.architectures --keep llama     # the same of these; the others stay
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import families
from benchmarks.families import family_names
from benchmarks.results import results_folder, say, write_results
from benchmarks.runs import PYTHON, make_run, sample_rows, tokenized
from jobs.caches import code_input, mapping_input
from jobs.errors import FarenseError
from jobs.paths import REPOSITORY, RunDirectory, Workspace
from jobs.storage.files import read_json

if TYPE_CHECKING:
    from jobs.training.session import Examples

STEPS, ROWS = 4, 8
TOLERANCE = 1e-4
SECONDS = 240
PAGE = REPOSITORY / "docs" / "models.md"
# How farense begins to say that it takes a plain way.
PLAIN = ("Training without the prefix cache: ", "The plain way is taken instead of ")
BEGIN, END = "<!-- architectures: begin -->", "<!-- architectures: end -->"
SETTINGS: dict[str, Any] = {
    # One batch an epoch: its order plays no part, so that plain mlx-lm can take the same steps.
    "batch_size": ROWS,
    "gradient_accumulation": 1,
    "num_epochs": STEPS,
    "eval_steps": STEPS,
    "log_steps": 1,
    "learning_rate": 1e-3,
    "max_seq_length": 160,
    "prefix_cache_gb": 1.0,
}


def main() -> None:
    """Run all or the named architectures, and write what became of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", help="modules of mlx_lm.models, or module:field=value; all without"
    )
    parser.add_argument("--one", action="store_true", help="in this process, result on stdout")
    parser.add_argument(
        "--uncompiled", action="store_true", help="without mx.compile: a quarter of the time"
    )
    parser.add_argument("--keep", action="store_true", help="keep what this code has measured")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="limit for each")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(outcome_of(options.names[0])))
        return
    names = options.names or family_names()
    path = results_folder(quick=bool(options.names) and not options.keep) / "architectures.json"
    known = (
        {each["name"]: each for each in read_json(path)["architectures"]} if options.keep else {}
    )
    code = code_digest()
    names = [name for name in names if known.get(name, {}).get("code") != code]
    for number, name in enumerate(names, 1):
        outcome = _in_a_process(name, options.seconds, compiled=not options.uncompiled)
        known[name] = {**outcome, "code": code, "compiled": not options.uncompiled}
        say(f"{number}/{len(names)} {name}: {describe(outcome)}")
        outcomes = [known[each] for each in family_names() if each in known]
        write_results(path, {"tolerance": TOLERANCE, "architectures": outcomes})
        if options.keep or not options.names:
            write_page(outcomes)
    say(f"Written: {path}")
    sys.exit(any(known[name]["outcome"] not in ("trains", "refused") for name in names))


def code_digest() -> str:
    """Return what tells by which code and packages an architecture was measured."""
    packages = {name: importlib.metadata.version(name) for name in ("mlx", "mlx-lm")}
    parts = code_input(), Path(families.__file__).read_bytes(), mapping_input(packages)
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12]


def outcome_of(name: str) -> dict[str, Any]:
    """Train one architecture in this process and return what was seen."""
    from benchmarks.families import make_folder, module_name, write_config
    from jobs.model_store.architectures import check_trainable

    with tempfile.TemporaryDirectory(prefix=f"{module_name(name)}-") as folder:
        workspace = Workspace(Path(folder))
        path = workspace.models / module_name(name)
        write_config(path, name)
        try:
            check_trainable(path, ())
        except FarenseError as error:
            return {"name": name, "outcome": "refused", "why": error.message.rpartition(": ")[2]}
        try:
            return {"name": name, **_compared(workspace, make_folder(path, name))}
        except FarenseError as error:
            return {"name": name, "outcome": "refused late", "why": error.message}
        except BaseException as error:  # whatever a library does: an exit, too
            return {
                "name": name,
                "outcome": "fails",
                "why": f"{type(error).__name__}: {error}"[:500],
                "where": traceback.format_exc().splitlines()[-14:],
            }


def describe(outcome: dict[str, Any]) -> str:
    """Return one line for a person."""
    figures = ", ".join(
        f"{key} {value:.1e}" for key, value in outcome.get("differences", {}).items()
    )
    return f"{outcome['outcome']} {figures} {outcome.get('why') or ''}".strip()


def write_page(outcomes: list[dict[str, Any]]) -> None:
    """Put the table between its marks in ``docs/models.md``."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{page_table(outcomes)}\n{END}{after}", encoding="utf-8")


def page_table(outcomes: list[dict[str, Any]]) -> str:
    """Return the Markdown table of all architectures."""
    rows = [
        f"| `{outcome['name']}` | {'yes' if outcome['outcome'] == 'trains' else 'no'} "
        f"| {_how(outcome)} |"
        for outcome in outcomes
    ]
    return "\n".join(["| mlx-lm's module | trains | how, or why not |", "|---|---|---|", *rows])


def _how(outcome: dict[str, Any]) -> str:
    if outcome["outcome"] != "trains":
        return str(outcome["why"])
    ways = [text.removeprefix(PLAIN[0]).removesuffix(".") for text in outcome["plain"]]
    return f"whole: {'; '.join(ways)}" if ways else "with the prefix cache"


def _in_a_process(name: str, seconds: int, *, compiled: bool) -> dict[str, Any]:
    command = [*PYTHON, "benchmarks.architectures", "--one", name]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
    if not compiled:
        environment["MLX_DISABLE_COMPILE"] = "1"
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"name": name, "outcome": "fails", "why": f"not done after {seconds} s"}
    try:
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return {
            "name": name,
            "outcome": "fails",
            "why": f"ended with {done.returncode}: {done.stderr.strip()[-300:]}",
        }
    return result


def _compared(workspace: Workspace, model: Path) -> dict[str, Any]:
    """Train with farense, cold and warm, and with plain mlx-lm; return the differences."""
    from jobs.model.load import load_tokenizer
    from jobs.spec import read_spec

    # In a hybrid the last two blocks may have no layer of one name.
    blocks = 2 if linear_names(model, 2) else 1
    lora: dict[str, Any] = {"rank": 4, "scale": 8.0, "dropout": 0.0, "num_layers": blocks}
    lora["keys"] = linear_names(model, blocks)
    settings = {**SETTINGS, "model": f"models/{model.name}", "lora": lora}
    rows, valid = sample_rows("train")[:ROWS], sample_rows("valid")[:4]
    runs, warnings = [], []
    plain: dict[str, Any] = {}
    for warm in (False, True):
        run = make_run(workspace, rows, valid, **settings)
        spec = read_spec(run)
        if not warm:
            tokenizer = load_tokenizer(model)
            data = [tokenized(run, file, tokenizer) for file in (spec.train, spec.valid)]
            plain = plain_losses(model, run, *data)
        warnings = _train(workspace, run)
        runs.append(run)
    logged = {row["step"]: row for row in read_json(runs[0].metrics_json)}
    saved = [(run.adapters / "adapters.safetensors").read_bytes() for run in runs]
    ours = {
        "before": logged[0]["val_loss"],
        "first step": logged[1]["loss"],
        "adapter": logged[STEPS]["val_loss"],
    }
    differences = {key: abs(value - plain[key]) for key, value in ours.items()}
    reloaded = plain_loss_of(model, runs[0].adapters, data[1])
    differences["adapter in mlx-lm"] = abs(ours["adapter"] - reloaded)
    differences["adapter's change"] = abs(ours["adapter"] - ours["before"])
    wrong = [
        key
        for key, value in differences.items()
        if key != "adapter's change" and not value <= TOLERANCE
    ]
    if differences["adapter's change"] <= TOLERANCE:
        wrong.append("the adapter learns nothing")
    if saved[0] != saved[1]:
        wrong.append("cold and warm bits")
    return {
        "outcome": "differs" if wrong else "trains",
        "why": ", ".join(wrong),
        "plain": warnings,
        "losses": ours,
        "differences": differences,
        "without_gradient": plain["without gradient"],
        "keys": lora["keys"],
    }


def linear_names(model: Path, blocks: int) -> list[str]:
    """Return the names of the linear layers that stand in each of the last blocks."""
    from jobs.backend.mlx import nn
    from jobs.model.load import load_module
    from jobs.model_store.architectures import READ_BY_BLOCK

    module = load_module(model)
    names = [
        {
            path.rpartition(".")[2]
            for path, layer in block.named_modules()
            if isinstance(layer, nn.Linear | nn.QuantizedLinear)
        }
        for block in module.layers[-blocks:]
    ]
    return sorted(set.intersection(*names) - READ_BY_BLOCK.get(model.name, frozenset()))


def plain_losses(path: Path, run: RunDirectory, train: Examples, valid: Examples) -> dict[str, Any]:
    """Return the losses of plain mlx-lm: before training, of the first step, and at the end."""
    from mlx_lm.tuner.utils import linear_to_lora_layers

    from benchmarks.runs import config_of
    from jobs.backend.mlx import mx, named, nn, optimizers
    from jobs.model.base_model import BaseModel
    from jobs.model.load import adapter_config

    config = config_of(run)
    base = BaseModel(path, config)
    model = plain_model(path)
    start = base.module.trainable_parameters()
    parameters = adapter_config(config.lora, base.reach.paths, str(path))["lora_parameters"]
    linear_to_lora_layers(model, config.lora.num_layers, parameters)
    odd = set(named(model.trainable_parameters())) ^ set(named(start))
    assert not odd, odd
    model.update(start)
    optimizer = optimizers.AdamW(
        learning_rate=config.learning_rate, weight_decay=config.weight_decay, bias_correction=False
    )
    losses: dict[str, Any] = {"before": plain_loss(model, valid)}
    model.train()
    grad = nn.value_and_grad(model, lambda module: mean_loss(module, train))
    for step in range(STEPS):
        loss, gradients = grad(model)
        losses.setdefault("first step", loss.item())
        if step == 1:
            losses["without gradient"] = sorted(
                name for name, array in named(gradients).items() if not mx.any(array != 0).item()
            )
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state)
    losses["adapter"] = plain_loss(model, valid)
    return losses


def plain_model(path: Path) -> Any:
    """Return mlx-lm's own model, still quantized, whose other numbers are float32."""
    from jobs.backend import cpu_ops as cpu
    from jobs.backend.mlx import load_model, mx
    from jobs.model.gated_delta import CHUNKED

    model, _ = load_model(path)
    cpu.FAST.put_back(model)
    CHUNKED.put_back(model)
    model.set_dtype(mx.float32)
    model.freeze()
    return model


def plain_loss_of(path: Path, adapter: Path, examples: Examples) -> float:
    """Return the loss that plain mlx-lm measures with a saved adapter."""
    from mlx_lm.tuner.utils import load_adapters

    return plain_loss(load_adapters(plain_model(path), str(adapter)), examples)


def plain_loss(model: Any, examples: Examples) -> float:
    """Return the mean loss over the completions' tokens, nats."""
    model.eval()
    return float(mean_loss(model, examples).item())


def mean_loss(model: Any, examples: Examples) -> Any:
    """Return the same as an array; each example is computed by itself, unpadded."""
    from jobs.backend.mlx import mx, nn

    losses = []
    for example in examples:
        logits = model(mx.array([example.tokens[:-1]]))[0, example.prompt_length - 1 :]
        targets = mx.array(example.tokens[example.prompt_length :])
        losses.append(nn.losses.cross_entropy(logits.astype(mx.float32), targets))
    return mx.mean(mx.concatenate(losses))


def _train(workspace: Workspace, run: RunDirectory) -> list[str]:
    """Train by farense's own loop; return what it says about the way it took."""
    from jobs.events import Warned
    from jobs.spec import read_spec
    from jobs.training.session import train

    said: list[str] = []

    def emit(event: object) -> None:
        if isinstance(event, Warned):
            said.append(event.message)

    train(workspace, read_spec(run), emit, lambda: None)
    return [text for text in said if text.startswith(PLAIN)]


if __name__ == "__main__":
    main()
