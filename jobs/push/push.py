"""From an export to what goes to the hub: found, described and checked before anything is sent."""

from __future__ import annotations

import re
from dataclasses import dataclass

from jobs.errors import InvalidInput
from jobs.model_store.origin import origin_of
from jobs.paths import Workspace
from jobs.push.card import card_on_hub
from jobs.push.contents import Contents, contents_of
from jobs.push.exports import ExportFolder

# As the hub has it: no dash, dot or underscore at an end, no two dashes or dots in a row.
PART = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
LONGEST = 96
LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}", re.ASCII)


@dataclass(frozen=True)
class Prepared:
    """What would go to the hub.

    Attributes:
        repository: ``owner/name``.
        base_model: the repository of the base model, as the card names it; None where it does not.
    """

    repository: str
    export: ExportFolder
    contents: Contents
    base_model: str | None


def prepare(
    workspace: Workspace,
    export: ExportFolder,
    repository: str,
    *,
    base_model: str | None = None,
    license_id: str | None = None,
) -> Prepared:
    """Return what of an export would go to a repository; nothing is sent.

    Args:
        base_model: the base model's repository, where a person says it; else it is known of models
            that were pulled from the hub.

    Raises:
        InvalidInput: a name cannot be one, or a file holds what must not go.
        ModelError: the export is not whole.
        WorkspaceError: a file cannot be read.
    """
    base = check_repository(base_model) if base_model else origin_of(workspace, export.fingerprint)
    if license_id is not None and not LICENSE.fullmatch(license_id):
        raise InvalidInput(
            f"{license_id!r} is no license as the hub abbreviates them.",
            "Examples: apache-2.0, mit, llama3.2, gemma, other",
        )
    page = export.path / "README.md"
    card = card_on_hub(page, repository, base_model=base, license_id=license_id)
    contents = contents_of(workspace, export.path, export.kind, card)
    return Prepared(repository, export, contents, base)


def check_repository(name: str) -> str:
    """Return the name of a repository of the hub.

    Raises:
        InvalidInput: it cannot be one.
    """
    owner, slash, last = name.partition("/")
    parts = (owner, last)
    if not slash or len(name) > LONGEST or not all(map(PART.fullmatch, parts)):
        hint = f"Put your name, or your organization's, before it: maria/{name}"
        if slash or not PART.fullmatch(name):
            hint = (
                "It is an owner and a name, of letters (a-z), digits, dots, dashes and "
                f"underscores, {LONGEST} at most: maria/farense-assistant"
            )
        raise InvalidInput(f"{name!r} cannot be a repository of the Hugging Face hub.", hint)
    if last.endswith((".git", ".ipynb")):
        raise InvalidInput(f"{name!r} ends as no repository of the hub may.")
    return name
