"""What is kept from job to job: each input that the table lists changes the key, in every form."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from jobs import caches
from jobs.backend import cpu_ops as cpu
from jobs.caches import TABLE
from jobs.config.config import TrainConfig, config_from
from jobs.data.tokenize import TokenizedExample, examples_input
from jobs.model_store.digest import weights_digest
from jobs.paths import Workspace
from jobs.prefix import states_cache
from jobs.spec import read_spec
from jobs.training.session import Session
from jobs.training.summary import Losses
from tests.helpers.runs import SETTINGS, make_run

ALL_KEYED = (caches.TOKENS, caches.PREFIX_STATES, caches.BASELINE)


def config(**settings: Any) -> TrainConfig:
    return config_from({**SETTINGS, "data": {"train": "data/a.jsonl"}, **settings}, "test")


@pytest.mark.parametrize("what", (*ALL_KEYED, caches.REHEARSALS))
def test_each_input_of_the_table_is_in_the_key(what: str) -> None:
    inputs = dict.fromkeys(TABLE[what].inputs, "as it was")
    keys = {caches.key_of(what, {**inputs, name: "another"}) for name in inputs}
    assert len(keys | {caches.key_of(what, inputs)}) == len(inputs) + 1
    for wrong in ({**inputs, "new": ""}, dict(list(inputs.items())[1:])):
        with pytest.raises(ValueError, match="not those of the table"):
            caches.key_of(what, wrong)


def test_inputs_do_not_run_together() -> None:
    lists = [[[1, 2], [3]], [[1], [2, 3]], [[1, 2], [3], []], []]
    assert len({caches.tokens_input(tokens) for tokens in lists}) == len(lists)
    one, other = TokenizedExample((1, 2, 3), 1), TokenizedExample((1, 2, 3), 2)
    between = TokenizedExample((1, 2, 3, 4), 1, ((2, 3),))
    whole = TokenizedExample((1, 2, 3, 4), 1)
    assert examples_input([[between]]) != examples_input([[whole]])
    files = [[[one]], [[other]], [[one], []], [[], [one]], [[one, one]]]
    assert len({examples_input(examples) for examples in files}) == len(files)
    assert caches.mapping_input({"a": 1, "b": 2}) == caches.mapping_input({"b": 2, "a": 1})


def test_every_setting_counts_unless_it_is_listed() -> None:
    before = caches.settings_input(config())
    assert caches.settings_input(config(prompt_format="chat")) != before
    assert caches.settings_input(config(max_seq_length=97)) != before
    thinks = config(prompt_format="chat", thinking="on")
    assert caches.settings_input(thinks) != caches.settings_input(config(prompt_format="chat"))
    assert caches.settings_input(config(seed=7)) == before

    class Newer(TrainConfig):
        thinking_hard: bool = False

    values = config().model_dump()
    new = {caches.settings_input(Newer(**values, thinking_hard=hard)) for hard in (False, True)}
    assert len(new) == 2


@pytest.mark.parametrize(
    ("name", "computes", "tokenizes"),
    [
        ("config.json", True, True),
        ("hf_quant_config.json", True, True),
        ("generation_config.json", True, True),
        ("anything_new.json", True, True),
        ("tokenizer.json", False, True),
        ("tokenizer_config.json", False, True),
        ("chat_template.jinja", False, True),
        ("additional_chat_templates/rag.jinja", False, True),
        ("tokenizer.model", False, True),
        ("vocab.txt", False, True),
        ("README.md", False, False),
    ],
)
def test_a_file_of_a_model_counts_unless_it_is_listed(
    tiny_model: Path, tmp_path: Path, name: str, computes: bool, tokenizes: bool
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)

    def found() -> tuple[bytes, bytes]:
        return caches.model_files_input(folder), caches.model_files_input(folder, ())

    (folder / name).parent.mkdir(exist_ok=True)
    states = [found()]
    for content in ("{}", '{"a": 1}'):
        (folder / name).write_text(content)
        states.append(found())
    assert (len({state[0] for state in states}) > 1) == computes
    assert (len({state[1] for state in states}) > 1) == tokenizes


def test_weights_count_by_their_content(tiny_model: Path, tmp_path: Path) -> None:
    folder, memory = tmp_path / "model", tmp_path / "digests.json"
    shutil.copytree(tiny_model, folder)
    file = folder / "model.safetensors"
    before = weights_digest(folder, memory)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    # Of the size and the time that it had: what tells is that it was changed at another time.
    os.utime(file, ns=(0, 0))
    assert weights_digest(folder, memory) != before
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert weights_digest(folder, memory) == before


def test_code_counts_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = caches.code_input([cpu])
    changed = ModuleType("changed")
    changed.__file__ = str(Path(caches.__file__).parent / "backend" / "streams.py")
    assert caches.code_input([changed]) != before == caches.code_input([cpu])
    copy = tmp_path / "jobs"
    shutil.copytree(Path(caches.__file__).parent, copy)
    whole = caches.code_input()
    monkeypatch.setattr(caches, "__file__", str(copy / "caches.py"))
    assert caches.code_input() == whole
    with (copy / "report" / "curves.py").open("a") as file:
        file.write("# changed\n")
    assert caches.code_input() != whole


@dataclass
class Asked:
    """The inputs with which a session asked for keys, by what is kept."""

    inputs: dict[str, caches.Inputs]

    def differ(self, other: Asked, what: str) -> set[str]:
        one, two = self.inputs[what], other.inputs[what]
        return {name for name in one if one[name] != two[name]}


@pytest.fixture
def ask(
    alone: Workspace, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Asked]:
    """Return what a job is kept under; each call makes one, of the settings it is given."""
    numbers = iter("abcdefghijklmnop")

    def asked(**settings: Any) -> Asked:
        seen: dict[str, caches.Inputs] = {}
        key_of = caches.key_of

        def listening(what: str, inputs: caches.Inputs) -> str:
            seen[what] = dict(inputs)
            return key_of(what, inputs)

        with monkeypatch.context() as patch:
            patch.setattr(caches, "key_of", listening)
            patch.setattr(states_cache, "key_of", listening)
            run = make_run(
                alone, tiny_model, f"20261122-210000-tiny-aaa{next(numbers)}", **settings
            )
            work = Session(alone, read_spec(run), lambda event: None, lambda: None, 0)
            work._batches()
            work._baseline(lambda: Losses(1.0, 1.0, 1.0, 1.0))
        return Asked(seen)

    return asked


@pytest.fixture
def forget_versions() -> Iterator[Callable[[], None]]:
    """Forgets what packages were found, now and at the end: later tests have the real ones."""
    yield caches._version.cache_clear
    caches._version.cache_clear()


def test_a_job_gives_all_inputs_and_what_changes_is_where_it_should_be(
    ask: Callable[..., Asked],
    alone: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    forget_versions: Callable[[], None],
) -> None:
    first = ask()
    assert first.inputs.keys() == set(ALL_KEYED)
    again = ask(learning_rate=1e-4, seed=3)
    assert [again.differ(first, what) for what in ALL_KEYED] == [set(), set(), set()]

    asked = ask(prompt_format="chat")
    assert asked.differ(first, caches.TOKENS) == {"prompt settings"}
    assert asked.differ(first, caches.PREFIX_STATES) == {"tokens"}
    assert asked.differ(first, caches.BASELINE) == {"examples", "settings"}

    asked = ask(lora={**SETTINGS["lora"], "num_layers": 1})
    assert asked.differ(first, caches.PREFIX_STATES) == {"boundary"}
    assert asked.differ(first, caches.BASELINE) == {"settings"}

    asked = ask(valid=4)
    assert asked.differ(first, caches.TOKENS) == {"data"}
    assert asked.differ(first, caches.BASELINE) == {"examples"}

    path = alone.models / "tiny/config.json"
    text = path.read_text()
    path.write_text(text.replace("1e-05", "0.1"))
    asked = ask()
    assert asked.differ(first, caches.TOKENS) == {"tokenizer files"}
    assert asked.differ(first, caches.PREFIX_STATES) == {"model files"}
    assert asked.differ(first, caches.BASELINE) == {"model files"}
    path.write_text(text)

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    asked = ask()
    assert "environment" in asked.differ(first, caches.BASELINE)
    monkeypatch.undo()

    versions = importlib.metadata.version
    for package in ("mlx", "mlx-lm", "transformers", "tokenizers"):
        monkeypatch.setattr(
            importlib.metadata,
            "version",
            lambda name, other=package: "0.0" if name == other else versions(name),
        )
        forget_versions()
        asked = ask()
        assert asked.differ(first, caches.TOKENS) == (set() if package == "mlx" else {"packages"})
        computes = package in ("mlx", "mlx-lm")
        assert asked.differ(first, caches.PREFIX_STATES) == ({"packages"} if computes else set())
        assert asked.differ(first, caches.BASELINE) == ({"environment"} if computes else set())
        monkeypatch.undo()
