#!/usr/bin/env bash
# mlx-lm's phi3small: in blocks with block-sparse attention a token's result depends on later ones.
#
# The model makes its causal mask as a boolean array, and the block adds it to the scores. True
# counts as 1 there: what may be seen gets one more, and what may not is seen all the same. Only
# whole blocks of later tokens are hidden. mlx-lm's other architectures hand the mask to MLX, which
# takes a boolean as "may be seen". A prompt read at once is understood otherwise than token by token.
#
# Needs Python 3.10 to 3.13 and a package index. Ends with 0 as long as it is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
mlx="mlx==0.32.4"
[ "$(uname)" = Darwin ] || mlx="mlx[cpu]==0.32.4"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$mlx" "mlx-lm==0.32.2"
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata

import mlx.core as mx
from mlx_lm.models import llama, phi3small
from mlx_lm.models.cache import make_prompt_cache

COMMON = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "vocab_size": 100352}
PHI = COMMON | {
    "model_type": "phi3small", "dense_attention_every_n_layers": 2, "ff_intermediate_size": 96,
    "gegelu_limit": 20.0, "layer_norm_epsilon": 1e-5, "blocksparse_block_size": 64,
    "blocksparse_num_local_blocks": 16, "blocksparse_vert_stride": 8,
}
LLAMA = COMMON | {"model_type": "llama", "intermediate_size": 96, "rms_norm_eps": 1e-5}


def off(library, config):
    """Logits of a token: by how much they differ without the tokens after it, and from those
    that the same tokens give one at a time, relative to the largest."""
    mx.random.seed(0)
    model = library.Model(library.ModelArgs.from_dict(config))
    ids = mx.arange(24)[None]
    whole, half = model(ids)[:, :12, :1000], model(ids[:, :12])[:, :, :1000]
    cache = make_prompt_cache(model)
    steps = mx.concatenate([model(ids[:, i : i + 1], cache) for i in range(12)], axis=1)
    scale = mx.max(mx.abs(half))
    return [
        (mx.max(mx.abs(one - half)) / scale).item() for one in (whole, steps[:, :, :1000])
    ]


phi, usual = off(phi3small, PHI), off(llama, LLAMA)
for package in ("mlx", "mlx-lm"):
    print(package, importlib.metadata.version(package))
print("with 12 later tokens, and token by token, the first 12 differ by (relative to the largest):")
print("  phi3small", *(f"{value:.1e}" for value in phi))
print("  llama    ", *(f"{value:.1e}" for value in usual))
assert max(usual) < 1e-4, "llama was to be causal"
assert min(phi) > 1e-3, "phi3small has become causal: this finding is out of date"
print("phi3small sees tokens that come later.")
PYTHON
