"""What Ollama makes a model of an export by: a Modelfile."""

from __future__ import annotations

from pathlib import Path

from jobs.config.config import config_from
from jobs.data.tokenizer import TemplateSettings
from jobs.evaluation.ask import common_system
from jobs.model.load import load_tokenizer
from jobs.ollama.modelfile import check_model_name
from jobs.ollama.recipe import Prompts, modelfile
from jobs.paths import Workspace
from jobs.spec import JobSpec
from jobs.storage.files import read_json

MODELFILE = "Modelfile"


def modelfile_text(
    workspace: Workspace, spec: JobSpec, weights: str, adapter: str | None = None
) -> str:
    """Return the Modelfile of a job's model.

    Args:
        weights, adapter: what ``FROM`` and ``ADAPTER`` name.

    Raises:
        ModelError: the job's chat template cannot be written as Ollama takes it.
    """
    return modelfile(prompts_of(workspace, spec), weights, adapter).text()


def named_base(base: str) -> str:
    """Return how ``FROM`` names a base model: a file by its whole path, a model by its name.

    Raises:
        InvalidInput: it is neither.
    """
    file = Path(base)
    return str(file.resolve()) if file.is_file() else check_model_name(base)


def prompts_of(workspace: Workspace, spec: JobSpec) -> Prompts:
    """Return how a job's prompts are made.

    Raises:
        ModelError: its tokenizer cannot be loaded.
    """
    config = config_from(spec.config, f"job.json of {spec.id}")
    path = workspace.model(config.model)
    tokenizer = load_tokenizer(path, TemplateSettings.of(config, spec.prompts_written_on))
    system = common_system(workspace, spec)
    context = read_json(path / "config.json").get("max_position_embeddings")
    dated = config.prompt_format == "chat" and tokenizer.writes_date
    return Prompts(
        tokenizer,
        config.prompt_format,
        system[0].content if system else None,
        config.max_seq_length,
        context if isinstance(context, int) else None,
        spec.prompts_written_on if dated else None,
    )
