"""Configs, data, messages, records and events, damaged at random: refused clearly, or harmless.

`make test` tries a few hundred, `make faults` ten thousand (FARENSE_MUTATIONS). A failure names the
number of its mutation; FARENSE_MUTATION=NUMBER then repeats that one alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from cli.show.data_report import report_lines
from cli.show.render import job_details, status_table
from daemon.joblog import LogReader
from daemon.queue.broker import Broker
from daemon.queue.embedded_server import EmbeddedServer
from daemon.settings import Settings
from daemon.store import keys
from daemon.store.progress import advanced, changes
from daemon.store.records import JobRecord, from_hash, to_hash
from daemon.submit.checks import SubmitChecks
from jobs.config.config import config_from, load_preset
from jobs.config.yaml12 import parse_yaml
from jobs.console import Console
from jobs.data.check import check as check_data
from jobs.data.examples import read_examples
from jobs.data.prompts import check_prompt_format
from jobs.data.tokenize import tokenize
from jobs.errors import InvalidInput
from jobs.events import EVENTS, Envelope, parse_event
from jobs.paths import REPOSITORY, Workspace
from jobs.state import State
from jobs.storage.files import plain
from tests.daemon.conftest import TINY, fill
from tests.helpers.byte_tokenizer import byte_tokenizer
from tests.helpers.mutations import ODD_TEXTS, Mutator
from tests.helpers.traps import pickles
from tests.helpers.trials import harmless, tried

JOB = "20261122-210000-v2-abcd"


@pytest.fixture
def broker(workspace: Workspace) -> Iterator[Broker]:
    """A real server with nothing in it."""
    server, broker = EmbeddedServer(workspace), Broker(workspace, Settings())
    server.ensure()
    yield broker
    broker.close()
    server.shut_down()


@pytest.fixture
def trapped(workspace: Workspace, tiny_model: Path, tmp_path: Path) -> Workspace:
    """A workspace with a model, data, and links that lead out of it and nowhere."""
    fill(workspace, tiny_model)
    outside = tmp_path / "outside"
    outside.mkdir()
    (workspace.models / "outside").symlink_to(outside)
    (workspace.models / "loop").symlink_to("loop")
    (workspace.data / "outside.jsonl").symlink_to(outside)
    (workspace.data / "loop.jsonl").symlink_to("loop.jsonl")
    return workspace


def test_configs(trapped: Workspace, tmp_path: Path) -> None:
    here = {
        "models/mistral-7b-4bit": "models/tiny",
        "models/smollm2-135m-4bit": "models/tiny",
        "data/sample": "data",
        "_v3_final_complete": "",
        "layers: 8": "layers: 2",
    }
    texts = [TINY, *(path.read_text() for path in sorted(REPOSITORY.glob("configs/*.yaml")))]
    for old, new in here.items():
        texts = [text.replace(old, new) for text in texts]
    settings = [key for key in config_from(parse_yaml(TINY), "x").model_dump() if key != "data"]
    path = tmp_path / "preset.yaml"

    def attempt(mutator: Mutator) -> bool:
        text, overrides = mutator.random.choice(texts), []
        match mutator.random.randrange(3):
            case 0:
                path.write_bytes(mutator.damaged(text.encode()))
            case 1:
                path.write_bytes(mutator.json(parse_yaml(text)))
            case 2:
                path.write_text(text)
                key = mutator.random.choice([*settings, "data.train", "data", "why", *ODD_TEXTS])
                value = mutator.random.choice([mutator.yaml(), mutator.text(), repr(mutator.odd())])
                overrides = [f"{key}={value}"]
        preset = load_preset(str(path), (tmp_path,), tuple(overrides))
        written = orjson.dumps(plain(preset.config.model_dump(mode="json")))
        assert config_from(orjson.loads(written), "job.json") == preset.config
        schedule = preset.config.schedule(SubmitChecks(trapped).look(preset.config))
        assert schedule.total_steps > 0
        assert len(schedule.validation_steps) <= schedule.total_steps
        inside = os.path.realpath(trapped.root / preset.config.model)
        assert inside.startswith(f"{os.path.realpath(trapped.models)}/")
        return True

    tried("configs", attempt)


def test_data(tmp_path: Path) -> None:
    sample = sorted(REPOSITORY.glob("data/sample/*.jsonl"))[0].read_bytes().splitlines()[:40]
    rows: list[dict[str, Any]] = [orjson.loads(line) for line in sample]
    turns = [{"role": role, "content": "Olá!"} for role in ("system", "user", "assistant")]
    rows += [
        {"messages": turns},
        {"messages": turns[1:] * 2},
        {"text": "Sporting Clube Farense"},
    ] * 5
    path, tokenizer = tmp_path / "data.jsonl", byte_tokenizer()

    def attempt(mutator: Mutator) -> bool:
        lines = mutator.random.sample(rows, mutator.random.randint(1, 4))
        damaged = [mutator.json_or_bytes(row) for row in lines[:1]]
        content = b"\n".join([*damaged, *(orjson.dumps(row) for row in lines[1:])])
        path.write_bytes(mutator.damaged(content) if mutator.random.random() < 0.2 else content)
        found = check_data(path, path, None, max_seq_length=64)
        orjson.dumps(plain(found.as_dict()))
        assert all(map(harmless, report_lines(found, "characters")))
        examples = read_examples(path)
        check_prompt_format(examples, "farense")
        assert found.train.examples == len(examples)
        tokens = tokenize(
            examples, tokenizer, prompt_format="farense", mask_prompt=True, max_seq_length=64
        )
        assert len(tokens.examples) + tokens.left_out == len(examples)
        for example in tokens.examples:
            assert 1 <= example.prompt_length < len(example.tokens) <= 64
        return True

    tried("data", attempt)


def test_messages(workspace: Workspace, broker: Broker, tmp_path: Path) -> None:
    trace, ran = tmp_path / "trace", list[str]()
    queue = broker.queue(run=ran.append)
    queue.push(JOB, 1)
    message = orjson.loads(queue.storage.dequeue())
    traps = pickles(trace)

    def attempt(mutator: Mutator) -> bool:
        data = mutator.json_or_bytes(message)
        if mutator.random.random() < 0.1:
            data = mutator.random.choice(traps)
        set_aside = int(broker.redis.llen(keys.DEAD_LETTERS))
        queue.storage.enqueue(data, mutator.random.choice((-1, 0, 9)))
        queue.job_ids()
        task = queue.dequeue()
        assert queue.pending_count() == 0
        if task is None:
            # The list is capped, and was emptied before it came to that.
            assert int(broker.redis.llen(keys.DEAD_LETTERS)) == set_aside + 1
            broker.redis.delete(keys.DEAD_LETTERS)
            return False
        (job_id,) = task.args
        queue.execute(task)
        # Not run where it is to run later only, or has expired.
        assert ran in ([], [job_id])
        ran.clear()
        broker.redis.delete(queue.storage.schedule_key)
        try:
            path = workspace.run(job_id).path
        except InvalidInput:
            return True
        assert path.resolve().parent == workspace.runs.resolve()
        return True

    tried("messages", attempt)
    assert not trace.exists()


def test_records(broker: Broker) -> None:
    store, redis = broker.store, broker.redis
    record = JobRecord(
        JOB, "v2", State.RUNNING, f"checkpoints_qlora/{JOB}", name="à noite", attempt=2, step=7,
        created_at="2026-11-22T21:00:00+00:00", total_steps=12, epoch=1, num_epochs=2, loss=1.5,
        val_loss=1.5, best_val_loss=1.4, overfitting_gap=0.1, gap_status="BOM", worker="mac:1",
        steps_per_second=2.5, eta_seconds=70.0, reason="why", failure="crashed",
        history=[{"attempt": 1, "class": "crashed"}, {"attempt": 2, "class": "crashed"}],
    )  # fmt: skip
    other = JOB.replace("abcd", "good")
    good = replace(record, id=other, run_dir=f"checkpoints_qlora/{other}")

    def attempt(mutator: Mutator) -> bool:
        redis.flushall()
        store.create_many([good])
        store.create_many([record])
        for name in mutator.random.sample(list(record.as_dict()), mutator.random.randint(1, 3)):
            value = orjson.loads(to_hash(record.as_dict())[name] or b"null")
            redis.hset(keys.job(JOB), name, mutator.json_or_bytes(value))
        match mutator.random.randrange(12):
            case 0:
                redis.hset(keys.job(JOB), mutator.damaged(b"state"), mutator.damaged(b'"running"'))
            case 1:
                redis.zadd(keys.JOBS, {mutator.damaged(JOB.encode()): 9e9})
            case 2:
                redis.sadd(keys.UNFINISHED, mutator.damaged(JOB.encode()))
            case 3:
                redis.delete(keys.job(JOB))
                redis.set(keys.job(JOB), mutator.text().encode("utf-8", "replace"))
        found = store.get(JOB)
        shown = store.current()
        assert good in shown
        assert str(shown) == str(store.get_many(item.id for item in shown))
        assert found is None or found.id == JOB
        lines = [*status_table(shown, 100), *status_table(shown)]
        assert len(lines) == 2 * len(shown) + 2
        assert not any("\n" in line for line in lines)
        details = [line for item in shown for line in job_details(item)]
        assert all(map(harmless, [*lines, *details]))
        orjson.dumps(plain([item.as_dict() for item in shown]))
        return found is not None

    tried("records", attempt)


def test_events(tmp_path: Path) -> None:
    blank = JobRecord(JOB, "v2", State.RUNNING, f"checkpoints_qlora/{JOB}", attempt=1)
    samples: dict[str, Any] = {
        "int": 3, "str": "text", "float": 0.5, "bool": True, "dict": {"lora": {"rank": 6}},
    }  # fmt: skip
    rows = []
    for kind in EVENTS.values():
        types = {
            name: str(hint).split(" ")[0].split("[")[0]
            for name, hint in kind.__annotations__.items()
        }
        values = {name: samples[hint] for name, hint in types.items() if hint in samples}
        envelope = Envelope(kind(**values), JOB, 1, "2026-11-22T21:00:00.000+00:00")
        assert parse_event(orjson.dumps(envelope.as_dict())) == envelope
        rows.append(envelope.as_dict())
    log = tmp_path / "log.jsonl"

    def attempt(mutator: Mutator) -> bool:
        row = mutator.random.choice(rows)
        line = mutator.json_or_bytes(row)
        console, found = Console(), parse_event(line)
        log.write_bytes(line + b"\n" + orjson.dumps(row) + b"\n" + line)
        reader, read = LogReader(log), []
        while lines := reader.read(64):
            read += lines.events
        assert Envelope in map(type, read)
        for envelope in read:
            assert all(map(harmless, console.lines(envelope)))
            record = advanced(blank, envelope)
            assert record.best_val_loss is None or math.isfinite(record.best_val_loss)
            values = {name.encode(): value for name, value in to_hash(record.as_dict()).items()}
            # What an event says must not make the record of its job unreadable.
            kept = from_hash({name: value for name, value in values.items() if value})
            assert kept is not None
            assert str(kept) == str(record)
            assert to_hash(changes(envelope)).keys() <= record.as_dict().keys()
            status_table([record], 100)
            orjson.dumps(envelope.as_dict())
        return found is not None

    tried("events", attempt)
