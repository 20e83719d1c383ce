from pathlib import Path

import pytest
import yaml

from jobs.config.config import LoraConfig, config_from, load_preset
from jobs.config.config_file import flatten, preset_names
from jobs.errors import ConfigError
from jobs.paths import REPOSITORY

FOLDERS = (REPOSITORY / "configs",)

V1 = {
    "model": "models/mistral-7b-4bit",
    "data.train": "data/train_v3_final_complete.jsonl",
    "data.valid": "data/valid_v3_final_complete.jsonl",
    "lora.rank": 8,
    "lora.scale": 16.0,
    "lora.dropout": 0.0,
    "lora.num_layers": 8,
    "lora.keys": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "batch_size": 4,
    "gradient_accumulation": 2,
    "learning_rate": 5e-4,
    "num_epochs": 3,
    "max_seq_length": 512,
    "warmup_steps": 100,
    "save_steps": 200,
    "eval_steps": 200,
    "log_steps": 10,
    "early_stopping_patience": None,
    "early_stopping_min_delta": None,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "seed": 42,
    "prompt_format": "farense",
    "mask_prompt": True,
}
V2 = V1 | {
    "lora.rank": 6,
    "lora.dropout": 0.08,
    "batch_size": 2,
    "gradient_accumulation": 4,
    "learning_rate": 2e-4,
    "early_stopping_patience": 5,
    "early_stopping_min_delta": 0.001,
}


@pytest.mark.parametrize(("name", "expected"), [("v1", V1), ("v2", V2)])
def test_presets_hold_the_values_they_were_specified_with(
    name: str, expected: dict[str, object]
) -> None:
    values = flatten(load_preset(name, FOLDERS).config.model_dump(mode="json"))
    assert {key: values[key] for key in expected} == expected


def test_v2_gives_a_reason_for_every_change() -> None:
    changed = {key for key in V2 if V1[key] != V2[key]}
    assert changed == set(load_preset("v2", FOLDERS).why)


def test_lora_settings_that_are_left_out_are_those_of_v2(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    needed = "model: models/x\ndata: {train: t.jsonl}\nbatch_size: 2\nlearning_rate: 1e-4\n"
    v2 = load_preset("v2", FOLDERS).config.lora
    path.write_text(f"{needed}num_epochs: 1\n")
    assert load_preset(str(path), FOLDERS).config.lora == v2
    path.write_text(f"{needed}num_epochs: 1\nlora: {{rank: 4}}\n")
    assert load_preset(str(path), FOLDERS).config.lora == v2.model_copy(update={"rank": 4})


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("lora.rank=0", "lora.rank: input should be greater than or equal to 1 (given: 0)"),
        ("lora.dropout=1.0", "lora.dropout: input should be less than 1 (given: 1.0)"),
        ("learning_rate=-1e-4", "learning_rate: input should be greater than 0 (given: -0.0001)"),
        ("learning_rate=.nan", "learning_rate: input should be a finite number"),
        ("lora.keys=q_proj", "lora.keys: expected a list, as [first, second] (given: 'q_proj')"),
        ("lora=7", "lora: stands for a group of settings: lora.kind, lora.rank"),
        ("batch_size=2.5", "batch_size: input should be a valid integer"),
        ("data.valid=0.1", "data.valid: 0.1 is neither a file nor a share; a tenth"),
        ("batch_size=null", "batch_size: input should be a valid integer (given: null)"),
        ("batch_size='2'", "batch_size: input should be a valid integer (given: '2')"),
        ("mask_prompt=1", "mask_prompt: input should be a valid boolean (given: 1)"),
        ("stall_minutes=0", "stall_minutes: input should be greater than 0 (given: 0)"),
        ("memory=6", "memory: 6 is neither auto nor a size; write 6GB or 512MB, say, or auto"),
        ("memory=6GiB", "memory: '6GiB' is neither auto nor a size"),
        ("memory=0GB", "memory: '0GB' is neither auto nor a size"),
        ("max_hours=-1", "max_hours: input should be greater than 0 (given: -1)"),
        ("optimizer=sgd", "optimizer: input should be 'adamw' (given: 'sgd')"),
        ("lora.rang=4", "lora.rang: unknown key (given: 4)"),
        ("lora.keys=[]", "lora.keys: "),
        ("loss_on=[all_answers]", "loss_on: input should be 'last_answer', 'all_answers' or"),
        ("loss_on=all", "loss_on: input should be 'last_answer', 'all_answers' or 'everything'"),
        ("lora.alpha=12", "lora.scale and lora.alpha are both given"),
        ("lora.rslora=true", "lora.rslora has no effect without lora.alpha"),
        ("lora.alpha=0", "lora.alpha: input should be greater than 0 (given: 0)"),
        ("lr_schedule=cosin", "lr_schedule: input should be 'constant', 'linear' or 'cosine'"),
        ("min_learning_rate=1e-5", "min_learning_rate has no effect with lr_schedule: constant"),
        ("warmup_ratio=0.1", "warmup_steps and warmup_ratio are both given: set warmup_steps to 0"),
        ("warmup_ratio=1", "warmup_ratio: input should be less than 1 (given: 1)"),
        ("data.valid=null", "early_stopping_patience needs validation data"),
        ("early_stopping_patience=null", "early_stopping_min_delta has no effect"),
        ("lora=3", "lora: "),
        ("seed.x=3", "'seed' is a single value, not a group"),
        ("learning_rate", "expected key=value"),
        ("learning_rate=[", "not a valid YAML value"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_preset("v2", FOLDERS, (override,))
    assert expected in caught.value.message


@pytest.mark.parametrize(
    ("overrides", "learned", "masked"),
    [
        ((), "last_answer", True),
        (("mask_prompt=false",), "everything", False),
        (("mask_prompt=null",), "last_answer", True),
        (("loss_on=last_answer",), "last_answer", True),
        (("loss_on=all_answers", "mask_prompt=null"), "all_answers", None),
        (("loss_on=everything", "mask_prompt=false"), "everything", False),
    ],
)
def test_what_is_learned_may_be_said_in_two_ways(
    overrides: tuple[str, ...], learned: str, masked: bool | None
) -> None:
    config = load_preset("v2", FOLDERS, overrides).config
    assert (config.loss_on, config.mask_prompt) == (learned, masked)
    # As a job's frozen spec holds it, and as one of an older version did.
    frozen = config.model_dump(mode="json")
    assert config_from(frozen, "test") == config
    if masked is not None:
        del frozen["loss_on"]
        assert config_from(frozen, "test") == config


@pytest.mark.parametrize("learned", ["all_answers", "everything"])
def test_what_is_learned_is_not_said_in_two_ways_that_differ(learned: str) -> None:
    with pytest.raises(ConfigError, match=f"mask_prompt: true contradicts loss_on: {learned}"):
        load_preset("v2", FOLDERS, (f"loss_on={learned}", "mask_prompt=true"))


def test_the_lowest_rate_is_below_the_highest() -> None:
    overrides = ("lr_schedule=linear", "min_learning_rate=3e-4")
    with pytest.raises(ConfigError, match=r"min_learning_rate 0.0003 is above learning_rate 0"):
        load_preset("v2", FOLDERS, overrides)


@pytest.mark.parametrize(
    ("overrides", "factor"),
    [
        ((), 16.0),
        (("lora.scale=null",), 16.0),
        (("lora.scale=null", "lora.alpha=12"), 2.0),
        (("lora.scale=null", "lora.alpha=12", "lora.rank=9", "lora.rslora=true"), 4.0),
    ],
)
def test_what_an_adapter_is_multiplied_with(overrides: tuple[str, ...], factor: float) -> None:
    lora = load_preset("v2", FOLDERS, overrides).config.lora
    assert lora.factor == factor
    # As a job's frozen spec holds it.
    assert LoraConfig(**lora.model_dump()) == lora


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("2E-5", 2e-5), ("0.001", 1e-3), ("1", 1.0), ("5.e-4", 5e-4)],
)
def test_learning_rates_may_be_written_as_people_write_them(text: str, value: float) -> None:
    config = load_preset("v2", FOLDERS, (f"learning_rate={text}",)).config
    assert config.learning_rate == value


def test_all_problems_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    values = yaml.safe_load((REPOSITORY / "configs/v2.yaml").read_text())
    del values["num_epochs"]
    values["lora"]["rank"] = "six"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError) as caught:
        load_preset(str(path), FOLDERS)
    assert str(path) in caught.value.message
    assert "num_epochs: required, but not given" in caught.value.message
    assert "lora.rank: " in caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", "not valid YAML"),
        ("a: 1\nb: 2\na: 3", "line 3, column 1: a is there twice"),
        ("- 1", "expected settings"),
        ("", "expected settings"),
    ],
)
def test_a_file_that_is_no_config(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=expected):
        load_preset(str(path), FOLDERS)


@pytest.mark.parametrize("name", ["v3", "../configs/v2", "", "V2 ", "missing.yaml"])
def test_an_unknown_preset_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_preset(name, FOLDERS)
    assert caught.value.hint is not None


def test_preset_names() -> None:
    assert {"v1", "v2", "chat", "quickstart"} <= set(preset_names(FOLDERS))


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def test_a_file_of_a_preset_and_changes_is_the_whole_config(tmp_path: Path) -> None:
    write(
        tmp_path,
        mine="preset: v2\nlearning_rate: 1e-4\nlora: {rank: 4}\nwhy: {lora.rank: smaller yet}\n",
        deeper="preset: mine.yaml\nlora: {keys: [q_proj]}\ndescription: one key\n",
    )
    v2 = load_preset("v2", FOLDERS)
    mine = load_preset(str(tmp_path / "mine.yaml"), FOLDERS)
    expected = flatten(v2.config.model_dump()) | {"learning_rate": 1e-4, "lora.rank": 4}
    assert flatten(mine.config.model_dump()) == expected
    assert (mine.name, mine.made_from) == ("mine", ("v2",))
    assert mine.description == "v2 with changes"
    # A reason that v2 gives for another value of a setting is no reason for this one.
    kept = {key: why for key, why in v2.why.items() if key != "learning_rate"}
    assert mine.why == kept | {"lora.rank": "smaller yet"}

    deeper = load_preset(str(tmp_path / "deeper.yaml"), FOLDERS, ("lora.rank=2",))
    assert flatten(deeper.config.model_dump()) == expected | {
        "lora.keys": ("q_proj",), "lora.rank": 2
    }  # fmt: skip
    assert deeper.made_from == ("mine.yaml", "v2")
    assert deeper.description == "one key"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("preset: quikstart", "preset: There is no preset 'quikstart'."),
        ("preset: ''", "preset: expected a preset or the path of a config file, found ''"),
        ("preset: 3", "preset: expected a preset or the path of a config file, found 3"),
        ("preset: mine", "mine.yaml: preset: mine builds on itself: "),
        ("preset: other", "other.yaml: preset: mine.yaml builds on itself: "),
        ("preset: gone.yaml", "preset: There is no config file "),
        ("preset: v2\nlora: {rnk: 4}", "lora.rnk: unknown key (given: 4). Did you mean lora.rank?"),
        ("preset: v2\nlora.rank: 4", "lora.rank: in a file, this is lora: {rank: 4}"),
        ("preset: v2\nlora: 4", "lora: "),
        ("prest: v2", "prest: unknown key (given: 'v2'). Did you mean preset?"),
    ],
)
def test_a_preset_that_a_file_cannot_build_on(tmp_path: Path, text: str, expected: str) -> None:
    write(tmp_path, mine=text, other="preset: mine.yaml")
    with pytest.raises(ConfigError) as caught:
        load_preset("mine", (tmp_path, *FOLDERS))
    assert expected in caught.value.message


@pytest.mark.parametrize(
    ("given", "kept", "size"),
    [
        (None, "auto", None),
        ("Auto", "auto", None),
        ("6GB", "6GB", 6 * 10**9),
        ("6 gb", "6GB", 6 * 10**9),
        ("512MB", "512MB", 512 * 10**6),
        ("1.5 GB", "1.5GB", 1_500_000_000),
    ],
)
def test_how_much_memory_is_written_in_several_ways(
    given: str | None, kept: str, size: int | None
) -> None:
    values = load_preset("v2", FOLDERS).config.model_dump(mode="json")
    config = config_from({**values, "memory": given}, "test")
    assert (config.memory, config.memory_bytes) == (kept, size)
    assert config_from(config.model_dump(mode="json"), "test") == config
