#!/usr/bin/env bash
# MLX is lazy, but not within a custom function that has a gradient of its own: all that one returns
# is computed together. An output that nobody asks for, kept for the gradient, takes its time and
# memory in a loss that is only measured, too. The same two arrays of a plain function are computed
# one by one, as asked for.
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

import mlx.core as mx

SIZE = 1024


def small_and_large(x):
    """A number, and an array of 4 MB that the number does not need."""
    return mx.sum(x), x[:, None] * x


def peak(function):
    """Megabytes that are held at once while the number alone is asked for."""
    x = mx.ones((SIZE,))
    mx.eval(x)
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    mx.eval(function(x)[0])
    return (mx.get_peak_memory() - before) / 1e6


custom_function = mx.custom_function(small_and_large)


@custom_function.vjp
def vjp(primals, cotangents, outputs):
    return mx.broadcast_to(cotangents[0], primals.shape)


print("mlx", importlib.metadata.version("mlx"))
plain, custom = peak(small_and_large), peak(custom_function)
print(f"plain function: {plain:.3f} MB, custom function: {custom:.3f} MB")
assert plain < 0.1 < 4 < custom, "this finding is out of date"
PYTHON
echo "It is still so."
