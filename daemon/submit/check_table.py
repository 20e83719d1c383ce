"""What can be wrong with a job, and where each of it is found: one table.

Everything that can be known when a job is queued is refused there, by
:class:`daemon.submit.checks.SubmitChecks`, whichever way the job comes in. What only the job itself
can find stands in the second part, with the reason. Each place in ``jobs/`` where a job's process
may end with an error of ours is named by a row: a test reads the code for them, so that a new one
is put here, too.
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
        "jobs.config.config:load_preset",
        (ENQUEUE, CLIENT, SWEEP),
        (
            *("jobs.config.validation:validated", "jobs.config.yaml12:load_yaml"),
            *("jobs.config.config_file:find_file", "jobs.config.config_file:read_config_file"),
            "jobs.config.config_file:apply_override",
        ),
    ),
    Check(
        "trackers",
        "`trackers` that names one whose library is not installed here (with a shared Redis: not "
        "refused, the machine that runs the job may have it)",
        "daemon.track.kinds:check_trackers",
        (*TRAININGS, RETRY),
    ),
    Check(
        "model's place",
        "a path of a model that leads out of the workspace, or a name that `models/` has already",
        "jobs.model_store.place:check_place",
        TRAININGS,
        ("jobs.paths:Workspace.inside", "jobs.paths:Workspace.model"),
    ),
    Check(
        "model's files",
        "a model folder that is missing, damaged or not whole, or asks for code of its own",
        "jobs.model_store.folder:check_model",
        ALL,
        (
            *(
                f"jobs.model_store.folder:{name}"
                for name in ("check_config", "_must_exist", "_tensors")
            ),
            *("jobs.model_store.folder:_json_object", "jobs.model_store.folder:_check_index"),
            *("jobs.model_store.folder:_check_tokenizer", "jobs.model_store.folder:_unreadable"),
            *("jobs.model_store.safetensors_header:read_header",),
            *("jobs.model_store.safetensors_header:raw_header",),
        ),
    ),
    Check(
        "architecture",
        "an architecture that mlx-lm does not have, or cannot train",
        "jobs.model_store.architectures:check_trainable",
        (*TRAININGS, RETRY),
        ("jobs.model_store.architectures:check_trainable",),
    ),
    Check(
        "adapted layers",
        "`lora.keys` that name no layer of the adapted blocks, or one that no adapter reaches; "
        "more blocks than the model has",
        "jobs.model_store.folder:check_lora",
        TRAININGS,
        (
            *("jobs.model_store.folder:check_lora", "jobs.config.lora_keys:reached"),
            *("jobs.config.lora_keys:check_num_layers",),
        ),
    ),
    Check(
        "layers of DoRA",
        "`lora.kind: dora` with experts of a mixture among the adapted layers, or layers of 3, 5 "
        "or 6 bits: mlx-lm's DoRA has none of either",
        "jobs.config.lora_keys:check_dora",
        TRAININGS,
        ("jobs.config.lora_keys:check_dora",),
    ),
    Check(
        "adapter to start from",
        "`init_from` that names no job or folder with an adapter, or one of another shape, scale "
        "or model",
        "daemon.submit.starting:adapter_named",
        TRAININGS,
    ),
    Check(
        "lines of the data",
        "a data file that is missing, empty, of another form, or has lines that cannot be used",
        "jobs.data.examples:read_examples",
        TRAININGS,
        (
            *("jobs.data.examples:read_examples", "jobs.data.examples:_refusal"),
            *("jobs.data.examples:unreadable", "jobs.data.foreign_form:other_form"),
        ),
    ),
    Check(
        "share for validation",
        "a `data.valid: 10%` that would leave no example to train on, or none for validation",
        "jobs.data.valid_split:valid_rows_of",
        TRAININGS,
    ),
    Check(
        "turns",
        "a conversation of several questions, tools or reasoning with `prompt_format: farense`",
        "jobs.data.prompts:check_prompt_format",
        TRAININGS,
        ("jobs.data.prompts:farense_prompt",),
    ),
    Check(
        "frozen data",
        "a job whose data are gone",
        "daemon.submit.checks:SubmitChecks.check_spec",
        (RETRY, EVALUATE),
    ),
    Check(
        "model is the same",
        "a model that has changed since the training that is evaluated or goes on",
        "jobs.model_store.folder:check_unchanged",
        (RETRY, EVALUATE),
        ("jobs.model_store.folder:check_unchanged",),
    ),
    Check(
        "tokenizer",
        "a tokenizer that cannot be loaded, or has no EOS token",
        "jobs.model.load:load_tokenizer",
        (*TRAININGS, RETRY),
        ("jobs.model.load:load_tokenizer", "jobs.data.chat.templating:eos_of"),
    ),
    Check(
        "chat template",
        "`prompt_format: chat` without a template, with one that is not Jinja, or with several and "
        "no choice",
        "jobs.data.tokenizer:Tokenizer.template",
        (*TRAININGS, RETRY),
        (
            *("jobs.data.chat.templating:turns_of", "jobs.data.tokenizer:Tokenizer.template"),
            *("jobs.data.tokenizer:Tokenizer.reads",),
        ),
    ),
    Check(
        "conversations",
        "a conversation that the chat template refuses, an answer that is an end of turn alone, "
        "a part that it does not write (tools, calls, reasoning, a system message), reasoning in "
        "an answer with `thinking: off`, and with `loss_on: all_answers` an earlier answer that "
        "the template writes otherwise once the conversation goes on",
        "jobs.data.tokenize:encode_example",
        (*TRAININGS, RETRY),
        (
            *("jobs.data.tokenize:encode_example", "jobs.data.chat.answer:_check_reasoning"),
            *("jobs.data.chat.templating:refused", "jobs.data.chat.turns:earlier_answers"),
            *("jobs.data.chat.turns:_agreeing", "jobs.data.chat.templating:check_written"),
            *("jobs.data.chat.templating:_turn", "jobs.data.chat.answer:_calls_rewritten"),
            *("jobs.data.chat.answer:templated_completion",),
        ),
    ),
    Check(
        "model loads",
        "a model that mlx-lm cannot build of its files",
        "jobs.model.load:load_module",
        (*TRAININGS, RETRY),
        ("jobs.model.load:load_module",),
    ),
    Check(
        "something to learn",
        "data of which `max_seq_length` leaves nothing",
        "jobs.data.fit:check_fit",
        TRAININGS,
        ("jobs.training.session:Session._load",),
    ),
    Check(
        "memory",
        "a model whose weights, as far as they are needed at one time, are more than this "
        "machine's memory (with a shared Redis: a warning); what an estimate says is a warning",
        "daemon.submit.resources:check_room",
        ALL,
    ),
    Check(
        "disk",
        "a run whose checkpoints and metrics are more than what is free (exit code 1; with a "
        "shared Redis: a warning); less than twice as much free is a warning",
        "jobs.resources.preflight:compare_disk",
        (*TRAININGS, RETRY),
        ("jobs.resources.preflight:compare_disk",),
    ),
    Check(
        "questions",
        "an evaluation on no validation data, or on texts alone",
        "daemon.submit.checks:SubmitChecks.check_questions",
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
        "daemon.runs.training:check_adapter",
        (EVALUATE,),
        ("jobs.model.adapter:read_adapter", "jobs.model.adapter_arrays:misfit"),
    ),
    Check(
        "checkpoint",
        "`retry --from-checkpoint` without a whole checkpoint, or with one of a newer farense",
        "daemon.submit.retry:place_again",
        (RETRY,),
        (
            *("jobs.training.checkpoint_files:step_of", "jobs.training.checkpoint_files:described"),
            *("jobs.training.checkpoint:_load",),
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
        (
            "jobs.model.base_model:BaseModel._tried",
            *("jobs.model.split:_logits", "jobs.model.split:failed"),
        ),
    ),
    Later(
        "a step on the largest batch that takes more memory than there is",
        "measured by a step; before it there is an estimate, of which enqueue warns",
        ("jobs.resources.ways:none_fits", "jobs.resources.out_of_memory:as_out_of_memory"),
    ),
    Later(
        "a model, data or an adapter to start from that were changed after the job was queued",
        "it is in the future",
        ("jobs.data.token_cache:_check_unchanged", "jobs.training.session:Session._start_of"),
    ),
    Later(
        "a disk that has filled up meanwhile, a folder that cannot be written any more",
        "it is in the future",
        ("jobs.storage.files:as_disk_full", "jobs.storage.files:explain"),
    ),
    Later(
        "a loss or an update that is not finite, also from damaged weights",
        "it is computed",
        (
            *("jobs.training.rollback:diverged", "jobs.training.rollback:may_go_back"),
            *("jobs.training.trainer:Trainer._roll_back", "jobs.training.trainer:Trainer.finish"),
        ),
    ),
    Later(
        "a checkpoint that does not fit the job",
        "its arrays are read by MLX; torn ones are passed over",
        ("jobs.training.trainer:Trainer._restore",),
    ),
    Later(
        "a job.json or state.json that was damaged or changed by hand after the job was queued",
        "it is in the future",
        (
            *("jobs.spec:read_spec", "jobs.state:read_state", "jobs.state:JobState.to"),
            *("jobs.paths:Workspace.run",),
        ),
    ),
    Later(
        "FARENSE_BACKEND in the daemon's environment that names a GPU which is not there",
        "the environment of the daemon is not that of who queues",
        ("jobs.backend.choice:wanted_backend", "jobs.backend.backend:backend"),
    ),
    Later(
        "another process that runs the job, a newer attempt, a job that has ended",
        "it is in the future; the job itself is untouched",
        (
            *("jobs.storage.locks:hold", "jobs.storage.locks:FileLock.acquire"),
            "jobs.__main__:_refuse_if_superseded",
            *("jobs.__main__:_run_by_hand",),
        ),
    ),
)
