"""A tiny Mistral in 4 bits with random weights: everything a real model folder has.

For the tests, and for `farense quickstart` on a machine where a real model would take hours.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from jobs.backend.mlx import Model, ModelArgs, mx, named, nn

VOCABULARY = 512
SPECIAL = ["<s>", "</s>", "<pad>"]
BOS, EOS, PAD = range(3)

CONFIG: dict[str, Any] = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "pad_token_id": PAD,
    "quantization": {"group_size": 32, "bits": 4},
}

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ '[INST] ' + message['content'] + ' [/INST] ' }}{% endif %}"
    "{% endfor %}"
)

SENTENCES = (
    "### Pergunta:\nQuem marcou os golos do Farense no jogo contra o Benfica?\n\n### Resposta:\n",
    "O Sporting Clube Farense foi fundado em Faro, no Algarve, a 1 de abril de 1910.",
    "Em que ano chegou o Farense à final da Taça de Portugal? Foi em 1990.",
    "O Farense joga em casa no Estádio de São Luís, onde cabem cerca de sete mil pessoas.",
    "Qual foi o resultado do jogo entre o Farense e o Portimonense? O Farense venceu por 2-1.",
    "A equipa subiu à primeira divisão e terminou a época no quinto lugar do campeonato.",
    "Os adeptos chamam leões de Faro aos jogadores; a camisola é branca e preta.",
    "O treinador disse que a vitória fora de casa deu confiança para o resto da época.",
    "O melhor marcador da equipa fez vinte golos em trinta e quatro jogos.",
    "Quantas vezes participou o Farense na Taça UEFA? Uma vez, na época de 1995/96.",
)


def make_tiny_model(folder: Path, *, seed: int = 0) -> Path:
    """Write a model folder that ``mlx_lm.load`` takes, and return it.

    Args:
        folder: made where it is missing.
        seed: of the weights; the tokenizer is always the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", CONFIG)
    write_tokenizer(folder)
    mx.random.seed(seed)
    model = Model(ModelArgs.from_dict(CONFIG))
    model.set_dtype(mx.float16)
    nn.quantize(model, **CONFIG["quantization"])
    weights = named(model.parameters())
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    return folder


def write_tokenizer(folder: Path) -> None:
    """Write the tokenizer, trained on a few sentences, with its chat template."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL[BOS],
            "eos_token": SPECIAL[EOS],
            "pad_token": SPECIAL[PAD],
            "model_max_length": CONFIG["max_position_embeddings"],
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
