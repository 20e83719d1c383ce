#!/usr/bin/env bash
# MLX's float64, on a CPU: cos, sin, exp, sigmoid and erf are right to some 7 digits only.
#
# Software: mlx 0.32.4 (the CPU build, from PyPI), Linux x86-64.
# Input: 2,001 numbers from -3.2 to 3.2 as a float64 array, on the CPU's stream.
# Seen: the results say that they are float64, but cos, sin, exp, sigmoid and erf differ from the
#   C library's by 3e-8 to 7e-6, as float32 would. tan, tanh, log, log1p, expm1, sinh, arctan and
#   arccos are right to 1e-14.
# Expected: as much precision as the type has, as with NumPy.
# So: a reference in float64 (a log-softmax, a cosine schedule) is none where it goes through exp or
#   cos. `mlx.optimizers.cosine_decay`, asked for a float64 step, is no better than for a float32 one.
# Fails once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
mlx="mlx==0.32.4"
[ "$(uname)" = Darwin ] || mlx="mlx[cpu]==0.32.4"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$mlx" numpy==2.4.1
"$folder/venv/bin/python" - <<'PYTHON'
import math
import sys

import mlx.core as mx
import numpy as np

x = np.linspace(-3.2, 3.2, 2001)
REFERENCES = {
    "cos": np.cos, "sin": np.sin, "exp": np.exp, "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    "erf": np.vectorize(math.erf), "tan": np.tan, "tanh": np.tanh, "expm1": np.expm1,
    "sinh": np.sinh, "arctan": np.arctan,
}
coarse = set()
with mx.stream(mx.cpu):
    array = mx.array(x, dtype=mx.float64)
    for name, reference in REFERENCES.items():
        result = getattr(mx, name)(array)
        assert result.dtype == mx.float64
        error = np.abs(np.array(result.tolist()) - reference(x)).max()
        print(f"{name:8} {error:.1e}")
        if error > 1e-9:
            coarse.add(name)
print("mlx", mx.__version__, "coarse in float64:", ", ".join(sorted(coarse)))
sys.exit(coarse != {"cos", "sin", "exp", "sigmoid", "erf"})
PYTHON
