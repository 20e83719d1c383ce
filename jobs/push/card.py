"""The model card of an export as it stands on the hub: with what the hub asks, and how to get it.

The card of the export is the source, with what a person wrote into it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from jobs.errors import InvalidInput
from jobs.storage.files import explain

FENCE = "---\n"
LOADING = "## How to load it\n"


def card_on_hub(
    page: Path, repository: str, *, base_model: str | None, license_id: str | None
) -> str:
    """Return what ``README.md`` says in a repository of the hub.

    Args:
        page: the card of the export.
        base_model: the base model's repository, ``organization/name``; None where it is not known,
            and the card then names none but those that it names already.
        license_id: as the hub abbreviates it; None says none.

    Raises:
        InvalidInput: there is no card, or its front matter is not YAML.
        WorkspaceError: it cannot be read.
    """
    head, body = _parts(page)
    head |= {"base_model": base_model} if base_model else {}
    head |= {"license": license_id} if license_id else {}
    before, loading, after = body.partition(LOADING)
    if loading:
        getting = f"    hf download {repository} --local-dir output/{page.parent.name}\n"
        loading += f"\nIt is got from the hub, as the commands below expect it, by:\n\n{getting}"
    front = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    return f"{FENCE}{front}{FENCE}{before}{loading}{after}"


def _parts(page: Path) -> tuple[dict[str, Any], str]:
    """Return the front matter of a card and all that stands below it."""
    try:
        text = page.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InvalidInput(
            f"{page.parent} has no model card, {page.name}.", "Export the job again with --force."
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{page} is not UTF-8 text: {error}.") from error
    except OSError as error:
        raise explain(error, page) from error
    if not text.startswith(FENCE):
        return {}, text
    front, _, body = text.removeprefix(FENCE).partition(f"\n{FENCE}")
    try:
        head: Any = yaml.safe_load(front)
    except yaml.YAMLError as error:
        raise InvalidInput(
            f"The front matter of {page}, above its second ---, is not YAML: "
            f"{' '.join(str(error).split())}.",
            "Mend it, or export the job again.",
        ) from error
    if not isinstance(head, dict):
        raise InvalidInput(f"The front matter of {page} holds no YAML mapping.")
    return head, body
