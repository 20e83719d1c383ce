#!/usr/bin/env bash
# mlx-lm's DoRA mistakes the width of layers that are quantized to 3, 5 or 6 bits: a model with one
# cannot be computed. LoRA beside the same layers can, and DoRA with 2, 4 and 8 bits.
#
# DoRALinear.from_base multiplies the width of the packed weight by 32 // bits, which is a whole
# number of 2, 4 and 8 bits alone; LoRALinear.from_base multiplies by 32 and then divides by bits.
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
import mlx.nn as nn
from mlx_lm.models import llama
from mlx_lm.tuner.utils import linear_to_lora_layers

LLAMA = {
    "model_type": "llama", "vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 64,
    "rms_norm_eps": 1e-5,
}
LORA = {"rank": 4, "scale": 8.0, "dropout": 0.0, "keys": ["self_attn.q_proj"]}


def computed(bits, use_dora):
    """How wide lora_a is for a layer of 64 inputs, and what computing the model raises."""
    mx.random.seed(0)
    model = llama.Model(llama.ModelArgs.from_dict(LLAMA))
    nn.quantize(model, group_size=32, bits=bits)
    linear_to_lora_layers(model, 1, LORA, use_dora=use_dora)
    width = model.layers[-1].self_attn.q_proj.lora_a.shape[0]
    try:
        mx.eval(model(mx.array([[1, 2, 3]])))
    except ValueError as error:
        return width, str(error)
    return width, None


for package in ("mlx", "mlx-lm"):
    print(package, importlib.metadata.version(package))
for use_dora in (False, True):
    for bits in (2, 3, 4, 5, 6, 8):
        width, error = computed(bits, use_dora)
        print(f"{'DoRA' if use_dora else 'LoRA'}, {bits} bits: {width} inputs, {error or 'computed'}")
        broken = use_dora and 32 % bits != 0
        assert (width != 64) == (error is not None) == broken, "this finding is out of date"
PYTHON
echo "It is still so."
