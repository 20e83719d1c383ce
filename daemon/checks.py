"""What can be wrong with a job, and where each of it is found: one table.

Everything that can be known when a job is queued is refused there, by :class:`daemon.desk.Desk`,
whichever way the job comes in. What only the job itself can find stands in the second part, with
the reason. Each place in ``jobs/`` where a job's process may end with an error of ours is named by
a row: a test reads the code for them, so that a new one is put here, too.
"""

from __future__ import annotations

from dataclasses import dataclass

# Ways in: `farense enqueue`, FarenseClient.enqueue and enqueue_many, `farense sweep`, `farense
# retry`, and evaluations (`farense evaluate`, `enqueue --evaluate`).
ENQUEUE, CLIENT, SWEEP, RETRY, EVALUATE = "enqueue", "client", "sweep", "retry", "evaluate"
TRAININGS = (ENQUEUE, CLIENT, SWEEP)
ALL = (*TRAININGS, RETRY, EVALUATE)


@dataclass(frozen=True)
class Check:
    """Something that is refused when a job is queued.

    Attributes:
        name: of the check.
        refused: what it refuses.
        where: the function that refuses it.
        ways: those on which it can occur; what was checked and frozen once does not change.
        in_jobs: where a job's process would meet it, had it not been refused.
    """

    name: str
    refused: str
    where: str
    ways: tuple[str, ...]
    in_jobs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Later:
    """Something that only the job itself can find.

    Attributes:
        name: of what is found.
        why: it is not known when the job is queued.
        in_jobs: see :class:`Check`.
    """

    name: str
    why: str
    in_jobs: tuple[str, ...]


TABLE: tuple[Check, ...] = (
    Check(
        "settings",
        "a preset that is not there, a key that is unknown, a value that is not allowed, settings "
        "that cannot be combined",
        "jobs.config:load_preset",
        (ENQUEUE, CLIENT, SWEEP),
        (
            *("jobs.config:validated", "jobs.yaml12:load_yaml"),
            *("jobs.config_file:find_file", "jobs.config_file:read_config_file"),
            "jobs.config_file:apply_override",
        ),
    ),
    Check(
        "model's place",
        "a path of a model that leads out of the workspace, or a name that `models/` has already",
        "jobs.models.place:check_place",
        TRAININGS,
        ("jobs.paths:Workspace.inside", "jobs.paths:Workspace.model"),
    ),
    Check(
        "model's files",
        "a model folder that is missing, damaged or not whole, or asks for code of its own",
        "jobs.models.folder:check_model",
        ALL,
        (
            *(f"jobs.models.folder:{name}" for name in ("check_config", "_must_exist", "_tensors")),
            *("jobs.models.folder:_json_object", "jobs.models.folder:_check_index"),
            *("jobs.models.folder:_check_tokenizer", "jobs.models.folder:_unreadable"),
            *("jobs.models.safetensors_header:read_header",),
            *("jobs.models.safetensors_header:raw_header",),
        ),
    ),
    Check(
        "architecture",
        "an architecture that mlx-lm does not have, or cannot train",
        "jobs.models.architectures:check_trainable",
        (*TRAININGS, RETRY),
        ("jobs.models.architectures:check_trainable",),
    ),
    Check(
        "adapted layers",
        "`lora.keys` that name no layer of the adapted blocks, or one that no adapter reaches; "
        "more blocks than the model has",
        "jobs.models.folder:check_lora",
        TRAININGS,
        (
            *("jobs.models.folder:check_lora", "jobs.lora_keys:reached"),
            *("jobs.lora_keys:check_num_layers",),
        ),
    ),
    Check(
        "lines of the data",
        "a data file that is missing, empty, of another form, or has lines that cannot be used",
        "jobs.examples:read_examples",
        TRAININGS,
        (
            *("jobs.examples:read_examples", "jobs.examples:_refusal"),
            *("jobs.examples:_numbered_lines", "jobs.data_form:other_form"),
        ),
    ),
    Check(
        "turns",
        "a conversation of several questions with `prompt_format: farense`",
        "jobs.prompts:check_prompt_format",
        TRAININGS,
        ("jobs.prompts:farense_prompt",),
    ),
    Check(
        "frozen data",
        "a job whose data are gone",
        "daemon.desk:Desk.check_order",
        (RETRY, EVALUATE),
    ),
    Check(
        "model is the same",
        "a model that has changed since the training that is evaluated or goes on",
        "jobs.models.folder:check_unchanged",
        (RETRY, EVALUATE),
        ("jobs.models.folder:check_unchanged",),
    ),
    Check(
        "tokenizer",
        "a tokenizer that cannot be loaded, or has no EOS token",
        "jobs.model:load_tokenizer",
        (*TRAININGS, RETRY),
        ("jobs.model:load_tokenizer", "jobs.dataset:_eos"),
    ),
    Check(
        "chat template",
        "`prompt_format: chat` without a template, with one that is not Jinja, or with several and "
        "no choice",
        "jobs.tokenizer:Tokenizer.template",
        (*TRAININGS, RETRY),
        (
            *("jobs.dataset:_turns", "jobs.tokenizer:Tokenizer.template"),
            *("jobs.tokenizer:Tokenizer.reads",),
        ),
    ),
    Check(
        "conversations",
        "a conversation that the chat template refuses, an answer that is an end of turn alone, "
        "reasoning in an answer with `thinking: off`",
        "jobs.dataset:encode_example",
        (*TRAININGS, RETRY),
        (
            *("jobs.dataset:encode_example", "jobs.dataset:_check_reasoning"),
            *("jobs.dataset:_refused",),
        ),
    ),
    Check(
        "model loads",
        "a model that mlx-lm cannot build of its files",
        "jobs.model:load_module",
        (*TRAININGS, RETRY),
        ("jobs.model:load_module",),
    ),
    Check(
        "something to learn",
        "data of which `max_seq_length` leaves nothing",
        "jobs.data_fit:check_fit",
        TRAININGS,
        ("jobs.session:Session._load",),
    ),
    Check(
        "memory",
        "a model whose weights, as far as they are needed at one time, are more than this "
        "machine's memory (with a shared Redis: a warning); what an estimate says is a warning",
        "daemon.room:check_room",
        ALL,
    ),
    Check(
        "disk",
        "a run whose checkpoints and metrics are more than what is free (exit code 1; with a "
        "shared Redis: a warning); less than twice as much free is a warning",
        "jobs.preflight:compare_disk",
        (*TRAININGS, RETRY),
        ("jobs.preflight:compare_disk",),
    ),
    Check(
        "questions",
        "an evaluation on no validation data, or on texts alone",
        "daemon.desk:Desk.check_questions",
        (ENQUEUE, SWEEP, EVALUATE),
        ("jobs.evaluation.evaluate:Evaluation.__init__", "jobs.evaluation.evaluate:_parts"),
    ),
    Check(
        "answers in batches",
        "an evaluation of an architecture for which mlx-lm cannot generate in batches",
        "jobs.evaluation.generation:check_batching",
        (ENQUEUE, SWEEP, EVALUATE),
        ("jobs.evaluation.generation:check_batching",),
    ),
    Check(
        "adapter",
        "an evaluation of an adapter that is missing, damaged, or does not fit its model",
        "daemon.trained:check_adapter",
        (EVALUATE,),
        ("jobs.trained:read_adapter", "jobs.adapter_arrays:misfit"),
    ),
    Check(
        "checkpoint",
        "`retry --from-checkpoint` without a whole checkpoint, or with one of a newer farense",
        "daemon.again:place_again",
        (RETRY,),
        (
            *("jobs.checkpoint_files:step_of", "jobs.checkpoint_files:described"),
            *("jobs.checkpoint:_load",),
        ),
    ),
    Check(
        "MLX",
        "MLX that does not start, or ends, on this machine (exit code 1)",
        "jobs.rehearsal:rehearse",
        ALL,
    ),
)

LATER: tuple[Later, ...] = (
    Later(
        "an architecture that cannot be computed or has no gradient, a layer that its code passes "
        "by, a token that sees later ones",
        "tried with all weights in memory; those of the installed mlx-lm are known and refused "
        "(docs/models.md)",
        (*("jobs.base_model:BaseModel._tried", "jobs.split:_logits", "jobs.split:failed"),),
    ),
    Later(
        "a step on the largest batch that takes more memory than there is",
        "measured by a step; before it there is an estimate, of which enqueue warns",
        ("jobs.preflight:check_memory", "jobs.memory:as_out_of_memory"),
    ),
    Later(
        "a model or data that were changed after the job was queued",
        "it is in the future",
        ("jobs.token_cache:_check_unchanged",),
    ),
    Later(
        "a disk that has filled up meanwhile, a folder that cannot be written any more",
        "it is in the future",
        ("jobs.files:as_disk_full", "jobs.files:explain"),
    ),
    Later(
        "a loss or an update that is not finite, also from damaged weights",
        "it is computed",
        (
            *("jobs.divergence:diverged", "jobs.divergence:may_go_back"),
            *("jobs.train:Trainer._roll_back", "jobs.train:Trainer.finish"),
        ),
    ),
    Later(
        "a checkpoint that does not fit the job",
        "its arrays are read by MLX; torn ones are passed over",
        ("jobs.train:Trainer._restore",),
    ),
    Later(
        "a job.json or state.json that was damaged or changed by hand after the job was queued",
        "it is in the future",
        (
            *("jobs.order:read_order", "jobs.state:read_state", "jobs.state:JobState.to"),
            *("jobs.paths:Workspace.run",),
        ),
    ),
    Later(
        "another process that runs the job, a newer attempt, a job that has ended",
        "it is in the future; the job itself is untouched",
        (
            *("jobs.lock:hold", "jobs.__main__:_refuse_if_superseded"),
            *("jobs.__main__:_run_by_hand",),
        ),
    ),
)
