"""mlx-lm in parts: training loads no tokenizer library, and nothing is missing for who wants it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"transformers", "huggingface_hub", "rich", "jinja2", "yaml"}


def said_by(program: str, *arguments: str) -> str:
    """Return what a Python program prints, run by an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "PyTorch" not in done.stderr
    return done.stdout


def test_training_loads_no_tokenizer_library_until_it_needs_one(tiny_model: Path) -> None:
    program = """
import sys
import jobs.session
from jobs.config import config_from
from jobs.model import load_base, load_tokenizer
path = __import__("pathlib").Path(sys.argv[1])
load_base(path)
print(*{name.partition(".")[0] for name in sys.modules})
print(load_tokenizer(path).encode("Farense"))
"""
    loaded, tokens = said_by(program, str(tiny_model)).splitlines()
    assert "mlx_lm" in loaded
    assert not set(loaded.split()) & HEAVY
    whole = "import sys, mlx_lm; print(mlx_lm.load(sys.argv[1])[1].encode('Farense'))"
    assert tokens == said_by(whole, str(tiny_model)).strip()


@pytest.mark.parametrize(
    "wanted",
    [
        "from mlx_lm import generate, load",
        "import mlx_lm; generate, load = mlx_lm.generate, mlx_lm.load",
        "from mlx_lm.generate import generate; from mlx_lm.utils import load",
        "from jobs.model import load_tokenizer; from mlx_lm import generate, load",
    ],
)
def test_who_imports_mlx_lm_afterwards_finds_all_of_it(tiny_model: Path, wanted: str) -> None:
    program = f"""
import sys
import jobs.mlx
{wanted}
import mlx_lm
from mlx_lm.tokenizer_utils import TokenizerWrapper
from mlx_lm.tuner import linear_to_lora_layers, train
from mlx_lm.tuner.lora import LoRALinear
from huggingface_hub import snapshot_download
model, tokenizer = load(sys.argv[1])
assert isinstance(tokenizer, TokenizerWrapper)
assert LoRALinear is jobs.mlx.LoRALinear
assert mlx_lm.__version__ and callable(mlx_lm.stream_generate)
print(repr(generate(model, tokenizer, "Farense", max_tokens=4)))
"""
    plain = """
import sys
from jobs.blas import load_fast_blas
load_fast_blas()
from mlx_lm import generate, load
print(repr(generate(*load(sys.argv[1]), "Farense", max_tokens=4)))
"""
    assert said_by(program, str(tiny_model)) == said_by(plain, str(tiny_model))


def test_an_mlx_lm_that_is_built_otherwise_is_imported_whole() -> None:
    program = """
import sys
from jobs import lean_mlx_lm
lean_mlx_lm.PARTS = (*lean_mlx_lm.PARTS, "mlx_lm.no_such_part")
assert not lean_mlx_lm.load_parts()
assert not [name for name in sys.modules if name.startswith("mlx_lm")]
assert "huggingface_hub" not in sys.modules
import mlx_lm
print(callable(mlx_lm.load), "transformers" in sys.modules)
"""
    assert said_by(program).split() == ["True", "True"]
