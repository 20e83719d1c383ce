#!/usr/bin/env bash
# MLX reads other numbers from a GGUF's Q4_K tensors than were written: half of them are wrong, and
# nothing says so. A Q4_K_M file, the most common kind, becomes another model.
#
# A block of Q4_K holds 256 numbers in eight groups of 32. Those in the even groups, which stand in
# the low halves of the bytes, come out right; those in the odd ones do not. Q2_K and Q6_K do.
# Compared with the reader of the `gguf` package, by llama.cpp's authors, and with the definition:
# https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-quants.c (dequantize_row_q4_K)
#
# Needs Python 3.10 to 3.13 and a package index. Ends with 0 as long as it is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
mlx="mlx==0.32.4"
[ "$(uname)" = Darwin ] || mlx="mlx[cpu]==0.32.4"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$mlx" "gguf==0.19.0"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata

import mlx.core as mx
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize

ROWS, SCALE = 64, np.float16(0.002)
# Where a block keeps its scales in float16: they are made small numbers, all else is random.
PLACES = {"Q2_K": (80, 82), "Q4_K": (0, 2), "Q6_K": (208,)}


def by_definition(blocks):
    """The 256 numbers of each Q4_K block, group by group."""
    q, groups = blocks[:, 4:16].astype(int), []
    for j in range(8):
        if j < 4:
            scale, least = q[:, j] & 63, q[:, j + 4] & 63
        else:
            scale = (q[:, j + 4] & 15) | (q[:, j - 4] >> 6 << 4)
            least = (q[:, j + 4] >> 4) | (q[:, j] >> 6 << 4)
        packed = blocks[:, 16 + 32 * (j // 2) :][:, :32]
        nibbles = packed & 15 if j % 2 == 0 else packed >> 4
        groups.append(float(SCALE) * (scale[:, None] * nibbles - least[:, None]))
    return np.concatenate(groups, axis=1)


for package in ("mlx", "gguf"):
    print(package, importlib.metadata.version(package))
for name, places in PLACES.items():
    kind = GGMLQuantizationType[name]
    blocks = np.random.default_rng(0).integers(0, 256, (ROWS, GGML_QUANT_SIZES[kind][1]), np.uint8)
    for place in places:
        blocks[:, place : place + 2] = np.frombuffer(SCALE.tobytes(), np.uint8)
    writer = GGUFWriter("one.gguf", "llama")
    writer.add_tensor("x", blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    expected = dequantize(blocks, kind)
    if name == "Q4_K":
        assert np.allclose(expected, by_definition(blocks), atol=1e-5)
    found = np.array(mx.load("one.gguf")["x"].astype(mx.float32))
    wrong = np.abs(found - expected) > 1e-3 + 2e-3 * np.abs(expected)
    shares = wrong.reshape(ROWS, 8, 32).mean(axis=(0, 2))
    print(f"{name}: wrong numbers by groups of 32:", ", ".join(f"{s:.0%}" for s in shares))
    odd = [share > 0.9 for share in shares]
    assert odd == [name == "Q4_K" and j % 2 == 1 for j in range(8)], "this finding is out of date"
PYTHON
echo "It is still so."
