"""Make an adapter with PEFT alone, every array of it away from its start; write its logits too.

Usage: peft_adapter.py BASE FOLDER TOKENS.json LOGITS.npy '{"use_dora": true, ...}'
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

base, folder, tokens, target, settings = sys.argv[1:]
torch.manual_seed(3)
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **json.loads(settings)))
with torch.no_grad():
    for name, array in model.named_parameters():
        if "lora_" in name:
            array += 0.05 * torch.randn_like(array)
model.eval()
model.save_pretrained(folder)
ids = torch.tensor([json.loads(Path(tokens).read_text())])
with torch.no_grad():
    np.save(target, model(ids).logits[0].numpy())
