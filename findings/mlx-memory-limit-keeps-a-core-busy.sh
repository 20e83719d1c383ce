#!/usr/bin/env bash
# A program that sets a memory limit waits at it: MLX starts no more work before some has ended. It
# does not sleep meanwhile. On a CPU, where the work that is left is a single task (ten operations),
# the thread that called `mx.eval` asks again and again whether it has ended, and keeps a core busy:
# of two cores, half of what should compute. Without a limit the same thread sleeps. Look at the
# processor time of the calling thread, not at that of the program: a limit that is "as fast" on
# many cores is not on a few.
#
# Needs Python 3.10 to 3.13 and a package index. Ends with 0 as long as it is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
mlx="mlx==0.32.4"
[ "$(uname)" = Darwin ] || mlx="mlx[cpu]==0.32.4"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$mlx"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import time

import mlx.core as mx

mx.set_default_device(mx.cpu)
x = mx.random.normal((500, 500)) / 30
mx.eval(x)


def chain():
    """Forty products, each of the one before: they are computed one after the other."""
    y = x
    for _ in range(40):
        y = y @ x
    return y


def share_of_a_core(limit):
    """How much of the time the calling thread itself computed, while others did the work."""
    before = mx.set_memory_limit(limit)
    try:
        wall, mine = time.perf_counter(), time.thread_time()
        mx.eval(chain())
        return (time.thread_time() - mine) / (time.perf_counter() - wall)
    finally:
        mx.set_memory_limit(before)


mx.eval(chain())
print("mlx", importlib.metadata.version("mlx"))
free, limited = share_of_a_core(1 << 40), share_of_a_core(1)
print(f"the thread that waits, without a limit: {free:.0%} of a core")
print(f"beyond a limit: {limited:.0%}")
assert limited > 0.5 > 0.2 > free, "this finding is out of date"
PYTHON
echo "It is still so."
