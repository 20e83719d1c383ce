"""The secret of a workspace's page: who knows it may see the page and change the queue.

It stands in the private folder, so that a link and a signed-in browser outlive the server.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from daemon.runs.private_folder import private_folder
from jobs.paths import Workspace
from jobs.storage.files import explain, write_atomic

FILE = "page_token"
TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class Secret:
    """A token, and what is made of it for a browser to keep.

    The cookie and the word of changes are not the token: who reads one of them cannot make a link.
    """

    token: str

    @classmethod
    def of(cls, workspace: Workspace, *, anew: bool = False) -> Secret:
        """Return the secret of a workspace, made where there is none.

        Args:
            anew: make another one: older links and signed-in browsers are shut out.

        Raises:
            WorkspaceError: the private folder cannot be read or written.
        """
        path = private_folder(workspace) / FILE
        found = None if anew else _read(path)
        if found is None:
            found = secrets.token_urlsafe(32)
            write_atomic(path, found.encode())  # which the user alone may read
        return cls(found)

    @property
    def cookie_name(self) -> str:
        """The name of its cookie: a browser keeps those of all ports of a machine together."""
        return f"farense_{self._made_for('name')[:8]}"

    @property
    def cookie(self) -> str:
        """What a signed-in browser keeps."""
        return self._made_for("cookie")

    @property
    def change_word(self) -> str:
        """What a page sends along with each change; another site's page cannot read it."""
        return self._made_for("change")

    def opens(self, token: str) -> bool:
        """Tell whether a link holds the token."""
        return same(token, self.token)

    def _made_for(self, use: str) -> str:
        return hmac.new(self.token.encode(), use.encode(), hashlib.sha256).hexdigest()


def same(given: str, expected: str) -> bool:
    """Compare two texts in a time that tells nothing of them."""
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())


def _read(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explain(error, path) from error
    return text if TOKEN.fullmatch(text) else None
