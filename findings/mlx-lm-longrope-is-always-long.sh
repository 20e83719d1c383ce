#!/usr/bin/env bash
# mlx-lm turns a model with longrope scaling (Phi-3 and Phi-4 mini with 128k tokens) by its long
# factors at every length. The authors' code, transformers and llama.cpp take the short factors for
# texts up to `original_max_position_embeddings`: there mlx-lm computes another model, and what is
# trained on it is trained for that.
#
# The short factors are an argument of mlx-lm's SuScaledRoPE, and nothing depends on them.
# https://arxiv.org/abs/2402.13753 (LongRoPE, section 3.4: the factors are recovered for short texts)
#
# Needs Python 3.10 to 3.13 and a package index. Ends with 0 as long as it is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
mlx="mlx==0.32.4"
[ "$(uname)" = Darwin ] || mlx="mlx[cpu]==0.32.4"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$mlx" "mlx-lm==0.32.2"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata

import mlx.core as mx
import numpy as np
from mlx_lm.models.rope_utils import SuScaledRoPE

SIZE, ORIGINAL, LONGEST, TOKENS = 32, 4096, 131072, 8
PAIRS = SIZE // 2
short, long = [1.0] * PAIRS, [1.0 + pair / 2 for pair in range(PAIRS)]


def turned(rows, factors):
    """The rows [T, SIZE] by the definition, without the scale that both lengths share."""
    angles = np.arange(TOKENS)[:, None] / (10000.0 ** (np.arange(PAIRS) / PAIRS) * factors)
    one, two = rows[:, :PAIRS], rows[:, PAIRS:]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([one * cos - two * sin, two * cos + one * sin], axis=1)


for package in ("mlx", "mlx-lm"):
    print(package, importlib.metadata.version(package))
rows = np.random.default_rng(0).normal(size=(TOKENS, SIZE)).astype(np.float32)
found = {
    name: np.array(
        SuScaledRoPE(SIZE, 10000.0, LONGEST, ORIGINAL, factors, long)(mx.array(rows)[None])[0]
    )
    for name, factors in (("short factors of 1", short), ("short factors of 7", [7.0] * PAIRS))
}
first, second = found.values()
scale = np.linalg.norm(first) / np.linalg.norm(rows)
print(f"{TOKENS} tokens, {ORIGINAL} is where the long factors begin")
for name, factors in (("short", short), ("long", long)):
    gap = np.abs(first / scale - turned(rows, np.array(factors))).max()
    print(f"mlx-lm's result differs from that of the {name} factors by at most {gap:.1e}")
    assert (gap < 1e-5) == (name == "long"), "this finding is out of date"
assert (first == second).all(), "this finding is out of date"
print("and is the same whatever the short factors are")
PYTHON
echo "It is still so."
