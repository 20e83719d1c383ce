"""`farense config show` and `farense config diff`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jobs.config.config import load_preset
from jobs.paths import Workspace
from tests.cli.conftest import Run
from tests.helpers.runs import questions, write_rows

ROWS = [
    ["lora.rank", "8", "6", "fewer parameters, less memorization"],
    ["lora scale / dropout", "16 / 0.0", "16 / 0.08", "dropout prevents co-adaptation"],
    [
        "batch_size x gradient_accumulation",
        "4 x 2",
        "2 x 4",
        "less memory, same effective batch of 8",
    ],
    ["learning_rate", "5e-4", "2e-4", "flatter minima"],
    [
        "early_stopping_patience / min_delta",
        "none",
        "5 / 0.001",
        "stop before overfitting",
    ],
]


def write_data(workspace: Workspace, examples: int) -> None:
    """Write the data files of the presets v1 and v2."""
    for name in ("train", "valid"):
        write_rows(workspace.data / f"{name}_v3_final_complete.jsonl", questions(examples))


def test_diff_is_the_table_of_what_changed_and_why(farense: Run) -> None:
    done = farense("config", "diff", "v1", "v2")
    assert (done.code, done.err) == (0, "")
    heading, *lines = done.out.splitlines()
    assert heading.split() == ["SETTING", "v1", "v2", "WHY"]
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    assert cells == ROWS


def test_diff_on_a_narrow_terminal_puts_reasons_below(invoke: Run) -> None:
    done = invoke("config", "diff", "v1", "v2", COLUMNS="70")
    assert max(map(len, done.out.splitlines())) <= 70
    assert "    flatter minima" in done.out.splitlines()


def test_diff_as_json_names_every_setting(invoke: Run) -> None:
    rows = json.loads(invoke("config", "diff", "v1", "v2", "--json").out)
    assert {row["setting"]: (row["a"], row["b"]) for row in rows} == {
        "lora.rank": (8, 6),
        "lora.dropout": (0.0, 0.08),
        "batch_size": (4, 2),
        "gradient_accumulation": (2, 4),
        "learning_rate": (5e-4, 2e-4),
        "early_stopping_patience": (None, 5),
        "early_stopping_min_delta": (None, 0.001),
    }
    assert all(row["why"] for row in rows)


def test_diff_of_the_same_is_said_so(invoke: Run) -> None:
    done = invoke("config", "diff", "v2", "v2")
    assert (done.code, done.out) == (0, "")
    assert "same settings" in done.err


def test_show_prints_a_config_file_that_reads_back_the_same(invoke: Run, tmp_path: Path) -> None:
    done = invoke("config", "show", "v2", "--set", "lora.rank=4", "--set", "learning_rate=1e-4")
    assert done.code == 0
    copy = tmp_path / "copy.yaml"
    copy.write_text(done.out, encoding="utf-8")
    config = load_preset(str(copy), ()).config
    assert (config.lora.rank, config.learning_rate) == (4, 1e-4)
    again = invoke("config", "show", str(copy), "--json")
    assert json.loads(again.out)["config"] == config.model_dump(mode="json")


def test_show_tells_the_validations_of_848_examples(invoke: Run, workspace: Workspace) -> None:
    write_data(workspace, 848)
    done = invoke("config", "show", "v2")
    assert "848 examples: 424 steps an epoch, 1272 steps, 6 validations" in done.out
    assert "early stopping at step 1200 at the earliest" in done.out
    assert done.err == ""


def test_show_warns_where_early_stopping_cannot_engage(invoke: Run, workspace: Workspace) -> None:
    write_data(workspace, 400)
    done = invoke("config", "show", "v2", "--json")
    shown = json.loads(done.out)
    assert shown["plan"]["validations"] == 3
    assert "cannot engage" in shown["warning"]
    assert "cannot engage" in done.err


def test_show_without_the_data_still_shows_the_config(invoke: Run) -> None:
    done = invoke("config", "show", "v2")
    assert done.code == 0
    assert "rank: 6" in done.out
    assert "not known" in done.out.splitlines()[-1]
    assert "the adapter of the lowest validation is kept" in done.out.splitlines()[-2]
    assert "lowest" not in invoke("config", "show", "v1").out
    assert json.loads(invoke("config", "show", "v2", "--json").out)["plan"] is None


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("lora.rank=0", ["lora.rank", "0", "greater than or equal to 1"]),
        ("lora.dropout=1.0", ["lora.dropout", "1.0", "less than 1"]),
        ("learning_rate=-1e-4", ["learning_rate", "-0.0001", "greater than 0"]),
        ("learnng_rate=1e-4", ["learnng_rate: unknown key", "Did you mean learning_rate?"]),
        ("lora.rnk=4", ["lora.rnk: unknown key (given: 4)", "Did you mean lora.rank?"]),
        ("lra.rank=4", ["lra: unknown key", "Did you mean lora?"]),
        ("rank=4", ["rank: unknown key", "Did you mean lora.rank?"]),
        ("data.trian=x", ["data.trian: unknown key", "Did you mean data.train?"]),
        ("batch_size=two", ["batch_size", "'two'", "integer"]),
        ("data.valid=null", ["early_stopping_patience", "validation data"]),
        ("rank", ["--set rank", "key=value"]),
        ("lora.rank=[", ["--set lora.rank=[", "YAML"]),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(
    invoke: Run, setting: str, parts: list[str]
) -> None:
    done = invoke("config", "show", "v2", "--set", setting)
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err
    for part in parts:
        assert part in done.err


def test_a_key_that_is_near_to_none_is_refused_without_a_suggestion(invoke: Run) -> None:
    done = invoke("config", "show", "v2", "--set", "momentum=0.9")
    assert (done.code, done.out) == (2, "")
    assert done.err.rstrip().endswith("momentum: unknown key (given: 0.9)")


def test_a_mistyped_key_of_a_file_and_a_mistyped_file_are_suggested(
    invoke: Run, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.yaml"
    shown = invoke("config", "show", "v2").out
    mine.write_text(shown.replace("rank:", "rnk:").replace("batch_size:", "batchsize:"))
    done = invoke("config", "show", str(mine))
    assert (done.code, done.out) == (2, "")
    assert "lora.rnk: unknown key (given: 6). Did you mean lora.rank?" in done.err
    assert "batchsize: unknown key (given: 2). Did you mean batch_size?" in done.err
    done = invoke("config", "show", str(tmp_path / "mien.yaml"))
    assert (done.code, done.out) == (2, "")
    assert "Did you mean mine.yaml?" in done.err


def test_a_mistyped_preset_suggests_the_one_meant(invoke: Run) -> None:
    assert "Did you mean quickstart?" in invoke("config", "show", "quikstart").err
    assert "Did you mean v2?" in invoke("config", "show", "V2").err
    assert "Did you mean" not in invoke("config", "show", "run").err


def test_an_unknown_preset_names_the_known_ones(invoke: Run) -> None:
    done = invoke("config", "show", "v9")
    assert (done.code, done.out) == (2, "")
    assert "There is no preset 'v9'" in done.err
    assert "v1, v2" in done.err


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("lora: [1, 2\nmodel: x", "not valid YAML"),
        ("just a sentence", "expected settings"),
        ("", "expected settings"),
        ("model: [x]\n", "model: "),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(
    invoke: Run, tmp_path: Path, content: str, part: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    done = invoke("config", "show", str(path))
    assert (done.code, done.out) == (2, "")
    assert str(path) in done.err
    assert part in done.err
    assert "Traceback" not in done.err


def test_a_workspace_has_presets_of_its_own(invoke: Run, workspace: Workspace) -> None:
    shutil.rmtree(workspace.configs)
    workspace.configs.mkdir()
    own = workspace.configs / "minha.yaml"
    own.write_text(invoke("config", "show", "v1", "--set", "seed=7").out)
    assert "seed: 7" in invoke("config", "show", "minha").out
    assert "minha, quickstart, v1, v2" in invoke("config", "show", "x").err


def test_a_file_of_a_preset_and_changes_is_shown_and_compared(
    invoke: Run, workspace: Workspace, tmp_path: Path
) -> None:
    (workspace.configs / "minha.yaml").write_text("preset: v2\nlearning_rate: 1e-4\n")
    (tmp_path / "mine.yaml").write_text("preset: minha\nlora: {rank: 4}\n")
    shown = invoke("config", "show", str(tmp_path / "mine.yaml"))
    assert shown.out.splitlines()[:2] == ["# mine: minha with changes", "# made from: minha, v2"]
    assert {"  rank: 4", "learning_rate: 0.0001"} <= set(shown.out.splitlines())
    assert not any(line.startswith("preset:") for line in shown.out.splitlines())
    rows = json.loads(invoke("config", "diff", "v2", "minha", "--json").out)
    assert [(row["setting"], row["a"], row["b"]) for row in rows] == [
        ("learning_rate", 2e-4, 1e-4)
    ]  # fmt: skip


def test_show_draws_the_learning_rate(invoke: Run, workspace: Workspace) -> None:
    write_data(workspace, 40)  # 20 steps an epoch, 5 updates
    decay = ("--set", "lr_schedule=linear", "--set", "warmup_steps=20", "--set", "num_epochs=2")
    lines = invoke("config", "show", "v2", *decay).out.splitlines()
    (drawn,) = [line for line in lines if line.startswith("# learning rate: ")]
    assert drawn == "# learning rate: ▂▄▅▇█▇▅▄▂▁  2e-4 from step 20, 0 at the last"
    found = json.loads(invoke("config", "show", "v2", *decay, "--json").out)
    assert found["plan"]["updates"] == 10
    assert found["learning_rate"]["4"] == pytest.approx(4e-5)
    assert list(found["learning_rate"]) == [str(step) for step in range(4, 41, 4)]
    constant = invoke("config", "show", "v2", "--set", "warmup_steps=0").out
    assert "# learning rate: ███████████████  2e-4 from step 4" in constant
