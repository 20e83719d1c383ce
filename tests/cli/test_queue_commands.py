"""The commands around the queue, through a real server, a real daemon and real child processes."""

from __future__ import annotations

import json
import signal
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from daemon.client import FarenseClient
from jobs.config.config import Preset
from jobs.errors import UnknownJob
from jobs.events import parse_event
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.state import State
from tests.cli.conftest import FARENSE, Run, environment, under_way
from tests.helpers.families import make_family
from tests.helpers.servers import Daemons

pytestmark = pytest.mark.usefixtures("preset", "client")


def test_enqueue_tells_the_id_the_steps_and_that_no_daemon_runs(
    invoke: Run, client: FarenseClient
) -> None:
    done = invoke("enqueue", "tiny", "--name", "época", "--priority", "3")
    assert done.code == 0
    first, plan = done.out.splitlines()
    record = client.job("latest")
    assert first == f"Queued {record.id}"
    assert plan.strip() == "11 examples: 6 steps an epoch, 12 steps, 1 validation"
    assert (record.preset, record.name, record.priority) == ("tiny", "época", 3)
    assert "Start one: farense daemon" in done.err


def test_enqueue_takes_a_preset_with_changes_and_freezes_the_whole(
    invoke: Run, client: FarenseClient, workspace: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("preset: tiny\nlearning_rate: 1e-4\nlora: {rank: 2}\n")
    job_id = json.loads(invoke("enqueue", str(path), "--json").out)["id"]
    tiny = json.loads(invoke("enqueue", "tiny", "--json").out)["id"]
    spec, plain = read_spec(workspace.run(job_id)), read_spec(workspace.run(tiny))
    assert spec.config == {
        **plain.config, "learning_rate": 1e-4, "lora": {**plain.config["lora"], "rank": 2}
    }  # fmt: skip
    assert (spec.preset, spec.made_from) == ("mine", ["tiny"])
    assert plain.made_from == []


def test_enqueue_says_nothing_of_daemons_where_one_runs(invoke: Run, daemons: Daemons) -> None:
    daemons.start()
    assert invoke("enqueue", "tiny").err == ""


def test_enqueue_as_json_is_one_object_with_the_id(invoke: Run, client: FarenseClient) -> None:
    done = invoke("enqueue", "tiny", "--json", "--set", "seed=3", "--set", "lora.rank=2")
    values = json.loads(done.out)
    assert values["id"] == client.job("latest").id
    assert (values["state"], values["total_steps"], values["validations"]) == ("queued", 12, 1)
    frozen = json.loads((client.workspace.run(values["id"]).job).read_text())["config"]
    assert (frozen["seed"], frozen["lora"]["rank"]) == (3, 2)


def test_enqueue_warns_where_early_stopping_cannot_engage(invoke: Run) -> None:
    done = invoke("enqueue", "tiny", "--set", "early_stopping_patience=5", "--json")
    assert done.code == 0
    assert "1 validation and a patience of 5" in done.err
    assert "cannot engage" in json.loads(done.out)["warning"]


def test_enqueue_tells_what_a_chat_template_will_make(
    invoke: Run, client: FarenseClient, tiny_model: Path
) -> None:
    for name in ("qwq", "named"):
        make_family(name, tiny_model, client.workspace.models / name)
    chat = ("enqueue", "tiny", "--json", "--set", "prompt_format=chat")
    done = invoke(*chat, "--set", "model=models/qwq")
    (said,) = json.loads(done.out)["warnings"]
    assert said.startswith("The chat template opens a reasoning block (<think>)")
    assert " ".join(said.split()) in " ".join(done.err.split())

    refused = invoke(*chat, "--set", "model=models/named")
    assert (refused.code, refused.out) == (2, "")
    assert "it has: plain, rag." in refused.err
    chosen = invoke(*chat, "--set", "model=models/named", "--set", "chat_template=plain")
    assert (chosen.code, json.loads(chosen.out)["warnings"]) == (0, [])
    spec = json.loads(client.workspace.run(json.loads(chosen.out)["id"]).job.read_text())
    assert spec["config"]["chat_template"] == "plain"
    assert spec["prompt_date"] == datetime.now().date().isoformat()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["lora.rank=4"], "--set lora.rank=4"),
        (["v1"], "unexpected extra argument (v1)"),
        (["--watch", "--json"], "farense watch --json"),
        (["--priority", "high"], "'high' is not a valid integer"),
    ],
)
def test_enqueue_says_how_it_is_meant(
    invoke: Run, client: FarenseClient, arguments: list[str], part: str
) -> None:
    done = invoke("enqueue", "tiny", *arguments)
    assert (done.code, done.out) == (2, "")
    assert part in done.err
    assert client.jobs() == []


def test_what_a_template_refuses_is_refused_by_the_file_and_line_of_the_person(
    invoke: Run, client: FarenseClient, tiny_model: Path
) -> None:
    make_family("mistral", tiny_model, client.workspace.models / "mistral")
    rows = [
        [("user", "Onde?"), ("assistant", "Em Faro.")],
        [("system", "Sê breve."), ("user", "Quem?"), ("assistant", "O Farense.")],
    ]
    data = client.workspace.data / "turns.jsonl"
    lines = [{"messages": [{"role": r, "content": c} for r, c in row]} for row in rows]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    plain = client.workspace.data / "plain.jsonl"
    plain.write_text(json.dumps(lines[0]) + "\n")
    settings = ("--set", "prompt_format=chat", "--set", "model=models/mistral")
    for train, valid in ((data, plain), (plain, data)):
        files = ("--set", f"data.train={train}", "--set", f"data.valid={valid}")
        done = invoke("enqueue", "tiny", "--at", "23:00", *settings, *files)
        assert (done.code, done.out) == (2, "")
        assert f"{data}, line 2: the model's chat template refuses" in done.err
        assert "imported" not in done.err
    assert client.jobs() == []


def test_what_max_seq_length_cuts_is_told_and_nothing_left_is_refused(
    invoke: Run, client: FarenseClient
) -> None:
    data = client.workspace.data / "lengths.jsonl"
    rows = [("Onde?", "Em Faro."), ("Onde?", "Em Faro. " * 40), ("Onde? " * 80, "Em Faro.")]
    data.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in rows))
    files = ("--set", f"data.train={data}", "--set", f"data.valid={data}")
    done = invoke("enqueue", "tiny", "--json", *files, "--set", "max_seq_length=150")
    assert done.code == 0, done.err
    said = json.loads(done.out)["warnings"]
    assert len(said) == 2
    assert "of 3 examples max_seq_length=150 cuts 1 short and leaves out 1;" in said[0]
    before = len(client.jobs())
    refused = invoke("enqueue", "tiny", *files, "--set", "max_seq_length=8")
    assert (refused.code, refused.out) == (2, "")
    assert "no example is left to learn from" in " ".join(refused.err.split())
    assert len(client.jobs()) == before


def test_watching_a_job_ends_with_its_end(invoke: Run, daemons: Daemons) -> None:
    daemons.start("early")
    done = invoke("enqueue", "tiny", "--watch")
    assert done.code == 0
    assert done.out.startswith("Queued ")
    assert "📚 Epoch 1/1" in done.out
    assert "ANÁLISE FINAL" in done.out


def test_watching_a_job_that_fails_ends_with_1_and_the_reason(
    farense: Run, client: FarenseClient, daemons: Daemons
) -> None:
    daemons.start("failing")
    farense("enqueue", "tiny")
    done = farense("watch")
    assert done.code == 1
    assert "the data are no good" in done.out
    assert f"{client.job('latest').id} has failed: the data are no good" in done.err


def test_watch_as_json_is_one_event_a_line(invoke: Run, daemons: Daemons) -> None:
    daemons.start()
    invoke("enqueue", "tiny")
    done = invoke("watch", "latest", "--json")
    events = [parse_event(line.encode()) for line in done.out.splitlines()]
    assert done.code == 0
    kinds = [event.event.kind for event in events if event]
    assert (kinds[0], kinds[-1], len(kinds)) == ("started", "finished", len(events))


def test_ctrl_c_stops_watching_and_leaves_the_job(
    farense: Run, client: FarenseClient, daemons: Daemons, workspace: Workspace
) -> None:
    daemons.start("endless")
    job_id = json.loads(farense("enqueue", "tiny", "--json").out)["id"]
    watching = subprocess.Popen(
        [FARENSE, "watch", job_id],
        env=environment(workspace.root),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    under_way(client, job_id)
    assert watching.stdout is not None
    assert job_id in watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=20)
    assert watching.returncode == 130
    assert f"{job_id} goes on. Watch again: farense watch {job_id}" in err
    assert client.job(job_id).state is State.RUNNING


def test_status_shows_a_job_in_the_table_and_in_full(
    farense: Run, client: FarenseClient, daemons: Daemons
) -> None:
    daemons.start("endless")
    job_id = json.loads(farense("enqueue", "tiny", "--name", "noite", "--json").out)["id"]
    under_way(client, job_id)
    table = farense("status")
    assert (table.code, table.err) == (0, "")
    heading, row = table.out.splitlines()
    assert heading.startswith("JOB ")
    assert row.split()[:4] == [job_id, "tiny", "(noite)", "running"]
    details = farense("status", job_id[-4:])
    assert f"Run directory  checkpoints_qlora/{job_id}" in details.out
    assert "Worker" in details.out


def test_status_as_json_is_the_record(invoke: Run, client: FarenseClient) -> None:
    invoke("enqueue", "tiny")
    (listed,) = json.loads(invoke("status", "--json").out)
    assert listed == json.loads(invoke("status", "latest", "--json").out)
    assert listed == client.job("latest").as_dict()
    assert {"id", "preset", "state", "attempt", "step", "total_steps", "loss", "val_loss"} <= {
        *listed
    }


def test_status_of_an_empty_workspace_says_what_to_do(invoke: Run) -> None:
    done = invoke("status")
    assert (done.code, done.out) == (0, "")
    assert "There are no jobs yet. Queue one: farense enqueue v2" in done.err
    assert json.loads(invoke("status", "--json").out) == []


def test_status_shows_the_20_newest_and_all_where_asked(invoke: Run, client: FarenseClient) -> None:
    for _ in range(22):
        client.cancel(client.enqueue(preset_of(client)).id)
    assert len(invoke("status").out.splitlines()) == 21
    assert len(invoke("status", "--all").out.splitlines()) == 23


def preset_of(client: FarenseClient) -> Preset:
    from jobs.config.config import load_preset

    return load_preset("tiny", (client.workspace.configs,))


@pytest.mark.parametrize("command", ["status", "watch", "logs", "cancel"])
def test_a_job_that_is_not_there_is_wrong_use(invoke: Run, command: str) -> None:
    done = invoke(command, "nada")
    assert (done.code, done.out) == (2, "")
    assert "There is no job 'nada'" in done.err


def test_a_mistyped_job_suggests_the_one_meant(invoke: Run, client: FarenseClient) -> None:
    job_id = json.loads(invoke("enqueue", "tiny", "--name", "slower", "--json").out)["id"]
    end = job_id[16:]
    for typed in (f"{end[:-1]}#", f"{job_id[:-1]}#"):
        assert f"Did you mean {end}?" in invoke("status", typed).err
    assert "Did you mean slower?" in invoke("cancel", "slowr").err
    assert "Did you mean latest?" in invoke("status", "lates").err
    done = invoke("status", "another")
    assert (done.code, done.out) == (2, "")
    assert "There is no job 'another'" in done.err
    assert "Did you mean" not in done.err


def test_part_of_an_id_must_name_one_job(invoke: Run, client: FarenseClient) -> None:
    for _ in range(2):
        client.enqueue(preset_of(client))
    done = invoke("status", "tiny")
    assert done.code == 2
    assert "names 2 jobs" in done.err
    with pytest.raises(UnknownJob):
        client.job("tiny")


def test_logs_print_what_a_job_said_and_follow_it_to_its_end(invoke: Run, daemons: Daemons) -> None:
    daemons.start()
    invoke("enqueue", "tiny")
    followed = invoke("logs", "-f")
    assert followed.code == 0
    assert "ANÁLISE FINAL" in followed.out
    assert invoke("logs", "latest").out == followed.out
    lines = invoke("logs", "--json").out.splitlines()
    assert json.loads(lines[0])["event"] == "started"
    assert json.loads(lines[-1])["event"] == "finished"


def test_logs_show_the_raw_output_of_the_process(
    invoke: Run, client: FarenseClient, daemons: Daemons
) -> None:
    daemons.start("silent", max_attempts=1)
    job_id = json.loads(invoke("enqueue", "tiny", "--json").out)["id"]
    assert invoke("watch", job_id).code == 1
    done = invoke("logs", "--stderr")
    assert (done.code, done.err) == (0, "")
    assert "terminate called after throwing an instance of 'metal::error'" in done.out


def test_raw_output_of_a_job_that_never_ran_is_said_to_be_missing(invoke: Run) -> None:
    invoke("enqueue", "tiny")
    done = invoke("logs", "--stderr")
    assert done.code == 2
    assert "has run on this machine" in done.err
    assert invoke("logs", "--stderr", "-f").code == 2


def test_status_and_logs_answer_from_the_files_where_the_queue_is_away(
    invoke: Run, daemons: Daemons
) -> None:
    daemons.start()
    job_id = invoke("enqueue", "tiny", "--watch").out.splitlines()[0].removeprefix("Queued ")
    before = invoke("status", job_id, "--json")
    assert invoke("daemon", "stop").code == 0
    after = invoke("status", job_id, "--json")
    assert after.code == 0
    assert "Read from the run directories" in after.err
    for key in ("id", "preset", "state", "attempt", "step", "loss", "val_loss", "run_dir"):
        assert json.loads(after.out)[key] == json.loads(before.out)[key]
    assert job_id in invoke("status").out
    logs = invoke("logs", job_id)
    assert logs.code == 0
    assert "ANÁLISE FINAL" in logs.out
    assert "Read from the run directories" in logs.err


def test_files_of_a_job_are_where_the_record_says(invoke: Run, workspace: Workspace) -> None:
    run_dir = json.loads(invoke("enqueue", "tiny", "--json").out)["run_dir"]
    assert not Path(run_dir).is_absolute()
    assert (workspace.root / run_dir / "job.json").is_file()
