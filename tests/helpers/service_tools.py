"""Stand-ins for launchctl and systemctl: they note what they are told and keep what is loaded."""

from __future__ import annotations

import shlex
from pathlib import Path

# launchd lets go of a name some time after `bootout` has returned; a bootstrap until then fails.
LAUNCHCTL = """\
#!/bin/sh
cd {folder} || exit 1
echo "launchctl $*" >> told
case "$1" in
bootstrap)
    if [ -e loaded ]; then echo "Bootstrap failed: 5: Input/output error" >&2; exit 5; fi
    : > loaded ;;
bootout) echo 3 > leaving ;;
print)
    if [ -e leaving ]; then
        read -r left < leaving
        if [ "$left" = 0 ]; then /bin/rm leaving loaded; else echo $((left - 1)) > leaving; fi
    fi
    [ -e loaded ] || exit 113 ;;
esac
"""

SYSTEMCTL = """\
#!/bin/sh
cd {folder} || exit 1
echo "systemctl $*" >> told
if [ -e broken ]; then echo "Failed to connect to bus: No medium found" >&2; exit 1; fi
case "$2" in
enable) : > loaded ;;
disable) /bin/rm -f loaded ;;
esac
"""


class ServiceTools:
    """Both tools in one folder, to be put first on the PATH; the real ones are never run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        for name, script in (("launchctl", LAUNCHCTL), ("systemctl", SYSTEMCTL)):
            path = folder / name
            path.write_text(script.format(folder=shlex.quote(str(folder))))
            path.chmod(0o755)

    @property
    def path(self) -> str:
        """The PATH on which nothing but the two is found."""
        return str(self.folder)

    def is_loaded(self) -> bool:
        """Whether a service is loaded."""
        return (self.folder / "loaded").exists()

    def told(self) -> list[str]:
        """Return the commands so far, without those that only look."""
        lines = (self.folder / "told").read_text().splitlines()
        return [line for line in lines if " print " not in line]

    def break_down(self) -> None:
        """Let every change fail from now on, as without a session of the user."""
        (self.folder / "broken").touch()
        (self.folder / "loaded").touch()  # to launchd, a bootstrap that fails
