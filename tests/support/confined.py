"""Running commands as a container may run them: as a number without a name, on a read-only root file system.

Needs root, unshare(1), mount(1) and setpriv(1). What runs is a shell script in a mount namespace of its own. It may
read everything, since Python and the checkout may be in a directory of root's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from support import processes

UID = 12345

# $1: where the new root is seen, $2: a directory that is kept, though $3, a directory that is made writable with the
# mode $4, may cover it; then the user and the command.
_CONFINE = """
set -e
root=$1 kept=$2 writable=$3 mode=$4 user=$5
shift 5
mount --make-rprivate /
mount --rbind / "$root"
awk -v root="$root" 'index($5, root) == 1 {print $5}' /proc/self/mountinfo | sort -u | while read -r place; do
    mount -o remount,bind,ro "$place" 2>/dev/null || true
done
mount -t tmpfs -o "mode=$mode" none "$root$writable"
case $kept in
    $writable/*)
        mkdir -p "$root$kept"
        mount --bind "$kept" "$root$kept"
        mount -o remount,bind,ro "$root$kept"
esac
exec chroot "$root" setpriv --reuid "$user" --regid "$user" --clear-groups \\
    --inh-caps +dac_read_search --ambient-caps +dac_read_search "$@"
"""


def run(
    script: str, words: Sequence[str], directory: Path, environ: Mapping[str, str], *, writable: str = "/tmp",
    mode: int = 0o1777, seconds: float = 60.0,
) -> str:
    """What `sh -c script -- words` prints as UID, in `directory`, on a read-only root with one writable directory.

    The script finds that directory in $WRITABLE. It is killed after so many seconds.
    """
    _skip_unless_possible()
    with tempfile.TemporaryDirectory() as root:
        argv = ["unshare", "-m", "sh", "-c", _CONFINE, "confine", root, str(directory), writable, f"{mode:o}", str(UID)]
        argv += ["sh", "-c", f"cd '{directory}'; {script}", "sh", *words]
        child = subprocess.Popen(
            argv, env={"PATH": os.environ["PATH"], "WRITABLE": writable, **environ}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )
        try:
            printed = child.communicate(timeout=seconds)[0]
        finally:
            left = processes.kill_session(child.pid)
            child.wait(seconds)
    assert left == [], f"left behind: {left}; printed:\n{printed}"
    return printed


def _skip_unless_possible() -> None:
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv(1) on Linux")
    # A container may lack the capability for it, even as root.
    if subprocess.run(["unshare", "-m", "mount", "--make-rprivate", "/"], capture_output=True, check=False).returncode:
        pytest.skip("this process may not make a mount namespace")
