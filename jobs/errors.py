"""The exception tree and the exit codes, in one place.

::

    FarenseError                 exit
    ├── InvalidInput              2    what the user gave cannot be used
    │   ├── ConfigError                a preset, a config file or a --set
    │   ├── DataError                  a JSON Lines file
    │   ├── ModelError                 a model folder or a model name
    │   └── UnknownJob                 a job id that names nothing, or too much
    ├── WorkspaceError            1    a folder that cannot be written
    │   └── DiskFull              8    (a command: 1) a disk with no space left
    ├── JobFailed                 1    the work itself failed
    │   ├── CheckpointError            no checkpoint could be read
    │   ├── Diverged              4    the loss or an update became NaN or infinite
    │   └── OutOfMemory           7    the work needs more memory than there is
    ├── NetworkError              1    what the user asked for over the network did not come
    ├── QueueUnreachable          3    Redis is needed and does not answer
    ├── JobLocked                 5    another process is running this job
    └── Superseded                6    a newer attempt of this job exists
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of ``farense`` (0 to 3) and of the training child (all of them)."""

    OK = 0
    FAILED = 1
    INVALID = 2
    UNREACHABLE = 3
    DIVERGED = 4
    LOCKED = 5
    SUPERSEDED = 6
    OUT_OF_MEMORY = 7
    DISK_FULL = 8
    """Said by the code alone: on a full disk no word of it can be written."""
    STOPPED = 75
    """Stopped on request, with a checkpoint: EX_TEMPFAIL, "try again later"."""


class FarenseError(Exception):
    """Something a person can act on.

    Args:
        message: what was found, where, and what was expected; one line or a few.
        hint: what to do or type next.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidInput(FarenseError):
    """What the user gave cannot be used."""

    exit_code = ExitCode.INVALID


class ConfigError(InvalidInput):
    """A preset, config file or override that is not valid."""


class DataError(InvalidInput):
    """A data file that is missing, unreadable or malformed."""


class ModelError(InvalidInput):
    """A model folder that is missing, incomplete or not allowed."""


class UnknownJob(InvalidInput):
    """A job argument that matches no job, or more than one."""


class WorkspaceError(FarenseError):
    """The workspace cannot be used: permissions, a full disk, another daemon."""


class DiskFull(WorkspaceError):
    """There is no space left on the disk, or none that the user may have."""

    exit_code = ExitCode.DISK_FULL


class JobFailed(FarenseError):
    """The work of a job failed."""


class CheckpointError(JobFailed):
    """A checkpoint is missing, torn or from an incompatible version."""


class Diverged(JobFailed):
    """The loss or an update became NaN or infinite."""

    exit_code = ExitCode.DIVERGED


class OutOfMemory(JobFailed):
    """The work needs more memory than the machine, or MLX, can give."""

    exit_code = ExitCode.OUT_OF_MEMORY


class NetworkError(FarenseError):
    """Something a user asked for over the network did not come."""


class QueueUnreachable(FarenseError):
    """Redis is needed and cannot be reached."""

    exit_code = ExitCode.UNREACHABLE


class JobLocked(FarenseError):
    """Another live process holds the job's ``run.lock``."""

    exit_code = ExitCode.LOCKED


class Superseded(FarenseError):
    """``state.json`` names a newer attempt than the one this process was started for."""

    exit_code = ExitCode.SUPERSEDED


def command_code(error: FarenseError) -> ExitCode:
    """Return the exit code of a command that met ``error``: 0 to 3, whatever a child's would be."""
    return error.exit_code if error.exit_code <= ExitCode.UNREACHABLE else ExitCode.FAILED
