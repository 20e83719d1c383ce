"""Where a config's model lies, and by which path a job names it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jobs.errors import InvalidInput, ModelError
from jobs.model_store.folder import check_model
from jobs.model_store.listing import list_models
from jobs.model_store.place import check_place, linked, model_folder
from jobs.paths import Workspace


@pytest.fixture
def shared(tmp_path: Path, tiny_model: Path) -> Path:
    """A model outside of any workspace."""
    return shutil.copytree(tiny_model, tmp_path / "disk" / "shared")


@pytest.fixture
def here(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "workspace")
    workspace.models.mkdir(parents=True)
    return workspace


def test_an_absolute_path_becomes_a_link_by_which_jobs_name_it(
    here: Workspace, shared: Path
) -> None:
    assert model_folder(here, str(shared)) == shared
    check_place(here, str(shared))
    assert list(here.models.iterdir()) == []
    for _ in range(2):
        assert linked(here, str(shared)) == "models/shared"
    assert (here.models / "shared").readlink() == shared
    assert here.model("models/shared") == here.models / "shared"
    check_model(here.model("models/shared"))


def test_a_path_in_the_workspace_is_named_from_there(here: Workspace) -> None:
    for given in ("models/mine", str(here.models / "mine")):
        assert model_folder(here, given) == here.models / "mine"
        assert linked(here, given) == "models/mine"
    assert list(here.models.iterdir()) == []


def test_the_home_folder_is_understood(
    here: Workspace, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(shared.parent))
    assert model_folder(here, "~/shared") == shared
    assert linked(here, "~/shared") == "models/shared"


@pytest.mark.parametrize("is_link", [True, False])
def test_another_folder_of_the_same_name_stays(
    here: Workspace, shared: Path, tmp_path: Path, is_link: bool
) -> None:
    if is_link:
        (here.models / "shared").symlink_to(tmp_path / "gone")
    else:
        (here.models / "shared").mkdir()
    with pytest.raises(ModelError, match="there is another shared there") as caught:
        linked(here, str(shared))
    assert ("a link to" in caught.value.message) is is_link
    assert f"ln -s {shared}" in (caught.value.hint or "")


@pytest.mark.parametrize("given", ["../shared", "models/../../shared", ".."])
def test_a_relative_path_may_not_lead_out(here: Workspace, given: str) -> None:
    for look in (model_folder, linked, check_place):
        with pytest.raises(InvalidInput, match="leads out of the workspace"):
            look(here, given)


def test_a_job_names_no_absolute_path(here: Workspace, shared: Path) -> None:
    with pytest.raises(InvalidInput, match="leads out of the workspace"):
        here.model(str(shared))


def test_a_link_to_nowhere_is_told_as_one(here: Workspace, tmp_path: Path) -> None:
    (here.models / "away").symlink_to(tmp_path / "disk" / "away")
    with pytest.raises(ModelError, match=r"is a link to .*/disk/away, and there is no folder"):
        check_model(here.model("models/away"))
    (found,) = list_models(here)
    assert (found.name, found.link) == ("away", str(tmp_path / "disk" / "away"))
    assert "is a link to" in (found.problem or "")


def test_the_list_tells_where_a_link_leads(here: Workspace, shared: Path) -> None:
    linked(here, str(shared))
    (found,) = list_models(here)
    assert (found.name, found.link, found.problem) == ("shared", str(shared), None)
    assert found.size_bytes == sum(file.stat().st_size for file in shared.iterdir())
