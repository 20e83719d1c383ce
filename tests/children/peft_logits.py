"""Logits of a model with an adapter as transformers and PEFT compute them.

Run by a Python of its own, which has torch: the base model's folder, the adapter's (or ``-`` for
none), a JSON file with a list of token ids, and where the logits [L, V] are saved for NumPy.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


def main(base: str, adapter: str, tokens: str, target: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter != "-":
        model = PeftModel.from_pretrained(model, adapter)
    model.train(False)
    ids = torch.tensor([json.loads(Path(tokens).read_text())])
    with torch.no_grad():
        np.save(target, model(input_ids=ids).logits[0].numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
