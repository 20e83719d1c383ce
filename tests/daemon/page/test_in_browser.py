"""The page in a real browser: watched while jobs run, things are killed, and it is looked at."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, expect

from daemon.client import FarenseClient
from daemon.queue.embedded_server import EmbeddedServer
from daemon.store.records import JobRecord
from jobs.config.config import Preset
from jobs.past_run import read_run
from jobs.paths import Workspace
from jobs.state import State
from jobs.storage.files import whole_lines, write_json
from jobs.sweep.folder import write_sweep
from jobs.sweep.paths import SweepFolder, sweeps_of
from tests.daemon.conftest import fill
from tests.helpers.browser import DESKTOP, LOOKS, Browser, Look, browser
from tests.helpers.made_up_sweep import SWEEP, every_kind, made_up
from tests.helpers.page_process import serving
from tests.helpers.past_runs import FIRST, SECOND
from tests.helpers.runs import CHILD, metrics
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until

# Training, and a browser in two windows.
pytestmark = pytest.mark.timeout(600)

PHONE = (390, 844)
# Milliseconds for something on the page to come about.
PATIENCE = 170_000
MARKUP = (
    "<img src=x onerror=\"document.title='obeyed'\"><script>document.title='obeyed'</script>&amp;"
)
# What the curve of a chart holds, as the page was told.
CURVE = "id => document.getElementById(id)?.chart?.data ?? null"
SERIOUS = {"serious", "critical"}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests here."""
    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


def curves_shown(page: Page, name: str, points: int) -> list[list[Any]]:
    """Wait until a chart has so many points; return steps and series."""
    return wait_until(
        lambda: (
            found if (found := page.evaluate(CURVE, name)) and len(found[0]) == points else None
        ),
        f"the curve of {name}",
    )


def enqueue_on_page(page: Page, name: str, **settings: str) -> str:
    """Fill in the form as a person does, send it, and return the id of the job that is shown."""
    page.get_by_role("link", name="New job").click()
    page.get_by_label("Preset").select_option("tiny")
    expect(page.locator("[id='f-model']")).to_have_value("models/tiny")
    page.get_by_text("More settings").click()
    for key, value in settings.items():
        page.locator(f"[id='f-{key}']").fill(value)
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Queue the job").click()
    page.wait_for_url("**/job/*", timeout=PATIENCE)
    return page.url.rpartition("/")[2]


def state_on_page(page: Page, word: str) -> None:
    expect(page.locator("main .state").first).to_have_text(word, timeout=PATIENCE)


def test_a_job_is_enqueued_and_watched_to_its_end_without_a_reload(
    chromium: Browser,
    workspace: Workspace,
    preset: Preset,
    daemons: Daemons,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")  # compiling takes longer than this job
    daemons.start(child=CHILD)
    with serving(workspace) as server, chromium.visit(server.link) as seen:
        page = seen.page
        page.evaluate("() => { window.stayed = true; }")
        settings = {"num_epochs": "12", "log_steps": "2", "eval_steps": "6"}
        job = enqueue_on_page(page, MARKUP, **settings)
        state_on_page(page, "completed")
        # What it says at its end is in its files before its state is told.
        rows = metrics(workspace.run(job))
        drawn = curves_shown(page, "losses", len(rows))
        names = ("step", "loss", "train_eval_loss", "val_loss")
        assert drawn == [[row[name] for row in rows] for name in names]
        for name, key in (("gaps", "overfitting_gap"), ("rates", "learning_rate")):
            assert page.evaluate(CURVE, name)[1] == [row[key] for row in rows]
        assert "ANÁLISE FINAL" in page.inner_text("#log")
        assert page.inner_text("h1") == MARKUP and "obeyed" not in page.title()
        assert page.locator("main img").count() == 0
        assert page.evaluate("() => window.stayed") is True
        assert seen.faults() == {}
    with FarenseClient.connect(workspace) as client:
        assert client.job(job).state is State.COMPLETED


def test_what_is_wrong_stands_beside_its_field(
    chromium: Browser, workspace: Workspace, preset: Preset, daemons: Daemons
) -> None:
    with serving(workspace) as server, chromium.visit(server.link) as seen:
        page = seen.page
        page.get_by_role("link", name="New job").click()
        page.get_by_label("Preset").select_option("tiny")
        rate = page.locator("[id='f-learning_rate']")
        expect(rate).to_have_value("0.001")
        expect(page.locator(".plan")).to_contain_text("11 examples", timeout=PATIENCE)
        rate.fill("fast")
        page.locator("[id='f-data.train']").fill("data/nothing.jsonl")
        expect(rate).to_have_attribute("aria-invalid", "true", timeout=PATIENCE)
        said = page.locator("[id='f-learning_rate-wrong']")
        assert "'fast'" in said.inner_text()
        rate.fill("1e-3")
        expect(page.locator("[id='f-data.train-wrong']")).to_contain_text("data/nothing.jsonl")
        page.get_by_label("Start no earlier than").fill("some day")
        expect(page.locator("[id='f-at-wrong']")).to_be_visible()
        # It is not sent either.
        page.get_by_role("button", name="Queue the job").click()
        expect(page.locator("[id='f-at']")).to_be_focused(timeout=PATIENCE)
        assert seen.faults() == {}
    with FarenseClient.connect(workspace) as client:
        assert client.jobs() == []


def test_jobs_are_paused_resumed_cancelled_and_moved(
    chromium: Browser, workspace: Workspace, client: FarenseClient, preset: Preset, daemons: Daemons
) -> None:
    daemons.start("endless")
    job, last = client.enqueue(preset), client.enqueue(preset, name="last")
    client.enqueue(preset, name="first", priority=5)
    with serving(workspace) as server, chromium.visit(server.link) as seen:
        page = seen.page
        last_row = page.get_by_role("row", name="last")
        last_row.get_by_role("button", name="To the front").click()
        expect(page.get_by_role("row").filter(has_text=last.id)).to_contain_text("1")
        wait_until(lambda: client.job(last.id).priority == 6, "its priority")
        page.get_by_role("article").get_by_role("link", name="tiny").click()
        state_on_page(page, "running")
        page.get_by_role("button", name="Pause").click()
        state_on_page(page, "paused")
        assert client.job(job.id).state is State.PAUSED
        page.get_by_role("button", name="Resume").click()
        wait_until(lambda: client.job(job.id).state is not State.PAUSED, "the resumed job")
        page.get_by_role("button", name="Cancel").click()
        box = page.get_by_role("dialog")
        if client.job(job.id).state is State.RUNNING or box.is_visible():
            box.get_by_role("button", name="Cancel the job").click()
        state_on_page(page, "cancelled")
        assert client.job(job.id).state is State.CANCELLED
        page.get_by_role("button", name="Retry").click()
        expect(page.locator("#said")).to_contain_text("Queued")
        assert seen.faults() == {}


def test_daemon_valkey_and_the_pages_server_may_be_killed_and_come_back(
    chromium: Browser, workspace: Workspace, client: FarenseClient, preset: Preset, daemons: Daemons
) -> None:
    job = client.enqueue(preset)
    with serving(workspace) as server, chromium.visit(server.link) as seen:
        page = seen.page
        expect(page.locator(".note")).to_contain_text("No daemon works on this queue")
        daemon = daemons.start("endless")
        expect(page.get_by_role("article")).to_contain_text("step", timeout=PATIENCE)

        os.kill(daemon.pid, signal.SIGKILL)
        expect(page.locator("article .state")).to_have_text("interrupted", timeout=PATIENCE)
        daemons.start("endless")
        expect(page.locator("article .state")).to_have_text("running", timeout=PATIENCE)

        valkey = EmbeddedServer(workspace).pid()
        assert valkey is not None
        os.kill(valkey, signal.SIGKILL)
        # The daemon starts it again, at once or nearly so: the job is shown all the while.
        wait_until(lambda: EmbeddedServer(workspace).pid() not in (None, valkey), "another Valkey")
        expect(page.locator("#notices")).to_be_empty(timeout=PATIENCE)
        expect(page.get_by_role("article")).to_contain_text(job.id)

        server.kill()
        expect(page.locator("#notices")).to_contain_text("server is away", timeout=PATIENCE)
        server.start()
        expect(page.locator("#link")).to_contain_text("live", timeout=PATIENCE)
        expect(page.locator("#notices")).to_be_empty()
        before = page.locator("article .pace").inner_text()
        expect(page.locator("article .pace")).not_to_have_text(before, timeout=PATIENCE)
        assert seen.faults() == {}


def test_without_redis_the_files_are_shown_and_the_page_says_so(
    chromium: Browser, past: Workspace
) -> None:
    with serving(past) as server, chromium.visit(server.link) as seen:
        expect(seen.page.locator("#notices")).to_contain_text("Shown from the files instead")
        expect(seen.page.get_by_role("row").filter(has_text=SECOND)).to_contain_text("completed")
        seen.page.get_by_role("link", name="tiny").last.click()
        state_on_page(seen.page, "completed")
        rows = read_run(past.run(FIRST).path).rows
        assert curves_shown(seen.page, "losses", len(rows))[0] == [row["step"] for row in rows]
        assert seen.faults() == {}


def test_another_token_locks_the_page_that_is_open(chromium: Browser, workspace: Workspace) -> None:
    from daemon.page.secret import Secret

    with serving(workspace) as server, chromium.visit(server.link) as seen:
        expect(seen.page.locator("#link")).to_contain_text("live")
        Secret.of(workspace, anew=True)
        server.stop()
        server.start()
        expect(seen.page.locator("#notices")).to_contain_text("locked", timeout=PATIENCE)


@pytest.fixture
def rich(past: Workspace, tiny_model: Path) -> Workspace:
    """A workspace with some of everything: past runs, an evaluation with markup, a sweep."""
    shutil.rmtree(past.models / "tiny")
    fill(past, tiny_model)
    answers = past.run(FIRST).evaluation / "answers.jsonl"
    rows = [orjson.loads(line) for line in whole_lines(answers)]
    rows[0] |= {"question": MARKUP, "answer": MARKUP, "token_f1": 0.0, "chrf": 0.0}
    answers.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    swept = made_up(every_kind(), best=2, importances={"lora.rank": 0.7, "learning_rate": 0.3})
    folder = SweepFolder(sweeps_of(past) / SWEEP)
    folder.path.mkdir(parents=True)
    write_sweep(folder, swept.spec)
    write_json(folder.state, asdict(swept.state))
    for trial in swept.trials:
        write_json(folder.trial(trial.number), asdict(trial))
    return past


def test_prompts_and_answers_are_text(chromium: Browser, rich: Workspace) -> None:
    with serving(rich) as server, chromium.visit(server.link) as seen:
        seen.page.goto(f"{server.base}/job/{FIRST}")
        first = seen.page.locator(".answers li").first
        expect(first.locator(".question")).to_contain_text(MARKUP, timeout=PATIENCE)
        expect(first.locator("dd").nth(1)).to_contain_text(MARKUP)
        assert seen.page.locator("main img, main script").count() == 0
        assert "obeyed" not in seen.page.title()


VIEWS = {
    "queue": ("/", "Ended"),
    "job": (f"/job/{FIRST}", "Worst answers"),
    "new": ("/new?preset=tiny", "The job"),
    "sweeps": ("/sweeps", "night"),
    "sweep": (f"/sweep/{SWEEP}", "Leaderboard"),
    "machines": ("/machines", "Daemons"),
}


def test_every_view_is_fit_to_be_seen_heard_and_typed_at(
    chromium: Browser,
    rich: Workspace,
    client: FarenseClient,
    daemons: Daemons,
) -> None:
    jobs = some_of_every_state(client, client.preset("tiny"), daemons)
    with ExitStack() as stack:
        server = stack.enter_context(serving(rich))
        shown: set[str] = set()
        for size in (PHONE, DESKTOP):
            for scheme in LOOKS:
                seen = stack.enter_context(chromium.visit(server.link, size=size, scheme=scheme))
                for name, (path, text) in VIEWS.items():
                    seen.page.goto(f"{server.base}{path}")
                    expect(seen.page.locator("main")).to_contain_text(text, timeout=PATIENCE)
                    if path == f"/job/{FIRST}":
                        curves_shown(seen.page, "losses", len(read_run(rich.run(FIRST).path).rows))
                    assert (name, size, scheme, seen.faults()) == (name, size, scheme, {})
                    assert (name, serious(seen.page)) == (name, [])
                    shown |= set(seen.page.locator("main .state").all_inner_texts())
                    picture(seen.page, name, size, scheme)
    assert jobs <= shown


def some_of_every_state(client: FarenseClient, preset: Preset, daemons: Daemons) -> set[str]:
    """Have jobs stand in the states in which the queue shows them; return the words for these."""
    client.enqueue(preset, name="failing")
    daemons.start("as_named")
    wait_until(lambda: ended(client), "the job that fails")
    client.enqueue(preset, name="endless")
    client.pause(client.enqueue(preset, name="later").id)
    client.cancel(client.enqueue(preset, name="not wanted").id)
    waits = client.enqueue(preset, name="good")
    client.evaluate(waits.id)
    return {"failed", "running", "paused", "cancelled", "waiting", "completed"}


def ended(client: FarenseClient) -> list[JobRecord]:
    return [record for record in client.jobs() if record.state is State.FAILED]


def serious(page: Page) -> list[str]:
    """Return what axe-core finds of weight on a page."""
    found = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {fault['nodes'][0]['html'][:120]}"
        for fault in found
        if fault["impact"] in SERIOUS
    ]


def picture(page: Page, name: str, size: tuple[int, int], scheme: Look) -> None:
    """Keep a picture of a view where `FARENSE_PICTURES` names a folder for them."""
    if folder := os.environ.get("FARENSE_PICTURES"):
        page.screenshot(path=f"{folder}/{name}-{size[0]}-{scheme}.png", full_page=True)
