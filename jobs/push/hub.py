"""Sending files to a repository of the Hugging Face hub, in one commit, and looking at what came.

Importing this module loads huggingface_hub; only a push that sends does.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import httpx2
from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi, ModelInfo, get_session, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from jobs.errors import FarenseError, InvalidInput, JobFailed, NetworkError
from jobs.model_store.hub import ANSWER_SECONDS, quiet
from jobs.push.contents import PushedFile
from jobs.storage.formatting import counted

# Of one write to the network, and of an answer: a commit of many gigabytes is checked first.
WRITE_SECONDS, COMMIT_SECONDS = 60.0, 600.0
# What programs load whatever its name: of two such files in a repository, one is too many.
LOADED = ("*.safetensors", "*.bin")
UNAUTHORIZED, FORBIDDEN, BUSY, SERVER_FAULT = 401, 403, 429, 500
# By which the library sends figures of the machine beside the files.
XET_TELEMETRY = "HF_XET_TELEMETRY_ENABLED"
WELL_FORMED = re.compile(r"[!-~]+")
LOG_IN = "Log in: `.venv/bin/hf auth login`, or set HF_TOKEN to a token that may write."


@dataclass(frozen=True)
class Pushed:
    """What a push came to.

    Attributes:
        url: of the repository.
        commit: its newest commit, which holds the files; ``commit_url``: its page.
        private: whether the repository is.
        created: whether this push made it.
        changed: whether this push sent anything: what is there already is not sent again.
    """

    url: str
    commit: str
    commit_url: str
    private: bool
    created: bool
    changed: bool


def send(
    repository: str,
    files: Sequence[PushedFile],
    message: str,
    warn: Callable[[str], None],
    *,
    public: bool,
) -> Pushed:
    """Send files to a repository, which is made where there is none.

    Args:
        repository: ``owner/name``.
        message: of the commit.
        warn: told what the hub remarks.
        public: whether everybody may see them. A repository that is there keeps what it is.

    Raises:
        InvalidInput: there is no token, or it may not write there; the repository is public and
            this was to be private; weights of another export are in it.
        NetworkError: the hub cannot be reached, or the way to it broke off.
        JobFailed: the hub refused the files, or holds other ones afterwards.
    """
    quiet()
    os.environ.setdefault(XET_TELEMETRY, "false")
    with _explained(repository):
        token = _token()
        get_session().timeout = httpx2.Timeout(
            COMMIT_SECONDS, connect=ANSWER_SECONDS, write=WRITE_SECONDS
        )
        api = HfApi(token=token, library_name="farense")
        before = _there(api, repository)
        if before is not None:
            _check_there(before, files, public=public)
        else:
            api.create_repo(repository, private=not public, repo_type="model")
        info = _commit(api, repository, files, message, warn)
        after = api.model_info(repository, revision=info.oid, files_metadata=True)
        _check_arrived(after, files)
    return Pushed(
        url=f"{api.endpoint}/{repository}",
        commit=info.oid,
        commit_url=info.commit_url,
        private=bool(after.private),
        created=before is None,
        changed=before is None or before.sha != info.oid,
    )


def _token() -> str:
    """Return the token of the hub library's own log-in.

    Raises:
        InvalidInput: there is none.
    """
    token = get_token()
    if token is None:
        raise InvalidInput("There is no token of the Hugging Face hub here.", LOG_IN)
    if not WELL_FORMED.fullmatch(token):
        # What sends it would show it in its complaint.
        raise InvalidInput("What is here as token of the Hugging Face hub cannot be one.", LOG_IN)
    return token


def _there(api: HfApi, repository: str) -> ModelInfo | None:
    """Return what is known of a repository; None where this user sees none."""
    try:
        return api.model_info(repository, timeout=ANSWER_SECONDS)
    except RepositoryNotFoundError:
        return None


def _check_there(info: ModelInfo, files: Sequence[PushedFile], *, public: bool) -> None:
    """Refuse a repository that others can see unasked, or that holds other weights."""
    if not info.private and not public:
        raise InvalidInput(
            f"{info.id} is there and is public: everybody could see what is pushed.",
            "Push with --public, make it private on its page, or choose another name.",
        )
    sent = {file.name for file in files}
    if not any(fnmatchcase(name, pattern) for name in sent for pattern in LOADED):
        return
    there = [file.rfilename for file in info.siblings or []]
    others = [
        name
        for name in there
        if name not in sent and any(fnmatchcase(name, pattern) for pattern in LOADED)
    ]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise InvalidInput(
            f"{info.id} holds other weights, {others[0]}{more}: programs would find two kinds in "
            "one place.",
            "Choose another name, or remove them on its page.",
        )


def _commit(
    api: HfApi,
    repository: str,
    files: Sequence[PushedFile],
    message: str,
    warn: Callable[[str], None],
) -> CommitInfo:
    additions = []
    for file in files:
        content = file.content if file.content is not None else str(file.path)
        addition = CommitOperationAdd(file.name, content)
        # It is known: the library need not read gigabytes for it once more.
        addition.upload_info.sha256 = bytes.fromhex(file.sha256)
        additions.append(addition)
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        info = api.create_commit(repository, additions, commit_message=message)
    for remark in remarks:
        if issubclass(remark.category, UserWarning):
            warn(f"The hub: {' '.join(str(remark.message).split())}")
    return info


def _check_arrived(info: ModelInfo, files: Sequence[PushedFile]) -> None:
    """Compare what the commit holds with what was to go.

    The library leaves out, without a word, what a `.gitignore` in the repository names.
    """
    there = {file.rfilename: file for file in info.siblings or []}
    for file in files:
        found = there.get(file.name)
        digest = found.lfs.sha256 if found is not None and found.lfs else file.sha256
        if found is None or found.size != file.size or digest != file.sha256:
            raise JobFailed(
                f"{file.name} is not in {info.id} as it was sent.",
                "Look for a .gitignore in the repository that names it, then push again.",
            )


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turn errors of the hub and of the way to it into ours, one line each."""
    try:
        yield
    except FarenseError:
        raise
    except OfflineModeIsEnabled as error:
        raise NetworkError(
            f"Nothing can be pushed to {repository}: HF_HUB_OFFLINE is set.",
            "Unset it and try again.",
        ) from error
    except HfHubHTTPError as error:
        raise _answer(repository, error) from error
    except (httpx2.HTTPError, OSError) as error:
        raise _broken(repository, error) from error
    except RuntimeError as error:
        # As the library wraps what went wrong with one of the files.
        cause = error.__cause__
        if isinstance(cause, HfHubHTTPError):
            raise _answer(repository, cause) from error
        raise _broken(repository, cause or error) from error
    except ValueError as error:
        raise JobFailed(
            f"The hub did not take the files for {repository}: {_line(error)}"
        ) from error


def _answer(repository: str, error: HfHubHTTPError) -> FarenseError:
    """Return what an answer of the hub means that is no success."""
    status, said = error.response.status_code, _said(error)
    if status == UNAUTHORIZED:
        return InvalidInput("The Hugging Face hub does not accept the token that is here.", LOG_IN)
    if status == FORBIDDEN:
        return InvalidInput(
            f"The token that is here may not write to {repository}: {said}", _whose(repository)
        )
    if status == BUSY or status >= SERVER_FAULT:
        return NetworkError(
            f"The Hugging Face hub could not take {repository} now: {said}",
            "Push again later: what is there already is not sent twice.",
        )
    return JobFailed(f"The Hugging Face hub did not take {repository}: {said}")


def _broken(repository: str, error: BaseException) -> NetworkError:
    return NetworkError(
        f"{repository} could not be pushed to the Hugging Face hub: {_line(error)}",
        "Check the network connection and push again: what is there already is not sent twice.",
    )


def _whose(repository: str) -> str:
    """Return what may help somebody whose token may not write: under which name it could."""
    try:
        name = HfApi().whoami()["name"]
    except (HfHubHTTPError, httpx2.HTTPError, OSError, KeyError):
        return LOG_IN
    own = f"{name}/{repository.partition('/')[2]}"
    if own == repository:
        return f"It is a token of {name} that may not write: make one that may, at the hub."
    return f"It is a token of {name}: {own} would be its own."


def _said(error: HfHubHTTPError) -> str:
    return " ".join((error.server_message or _line(error)).split())[:300]


def _line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200]


def pushed_text(pushed: Pushed, count: int) -> str:
    """Return what a push came to, in a line."""
    seen = "private" if pushed.private else "public"
    done = f"{counted(count, 'file')} sent" if pushed.changed else "it held all of this already"
    return f"{pushed.url} ({seen}): {done}."
