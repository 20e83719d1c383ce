"""Small files in every form that `farense data import` reads, written as others write them."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Write = Callable[[Path, Sequence[Mapping[str, Any]]], Path]

OPPONENTS = ("Olhanense", "Portimonense", "Louletano", "Silves", "Lusitano", "Imortal")
ASKED = [
    (f"Quem ganhou ao {name}?", f"O Farense, por {at}-0.") for at, name in enumerate(OPPONENTS)
]


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def array(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text(json.dumps(list(rows), indent=2))
    return path


def table(path: Path, rows: Sequence[Mapping[str, Any]], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def semicolons(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    return table(path, rows, ";")


def tabs(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    return table(path, rows, "\t")


def parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=4)
    return path


def packed(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_bytes(gzip.compress(lines(path, rows).read_bytes()))
    return path


def pairs(question: str, answer: str, /, **more: Any) -> list[dict[str, Any]]:
    return [{question: asked, answer: answered, **more} for asked, answered in ASKED]


def messages(**more: Any) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "system", "content": "Responde em português."},
                {"role": "user", "content": "Olá!"},
                {"role": "assistant", "content": "Bom dia."},
                {"role": "user", "content": asked},
                {"role": "assistant", "content": answered},
            ],
            **more,
        }
        for asked, answered in ASKED
    ]


def with_tools(arguments: Callable[[dict[str, Any]], Any] = json.dumps) -> list[dict[str, Any]]:
    """Return conversations that call a tool.

    Args:
        arguments: how the arguments of a call are written.
    """
    rows = []
    for number, (asked, answered) in enumerate(ASKED):
        # In a table every row has the keys of all rows: what one tool has not is null there.
        given = {"jogo": number} if number % 2 else {"clube": asked}
        function = {"name": "resultado", "arguments": arguments(given)}
        call = {"id": f"call{number:05}", "type": "function", "function": function}
        parameters = {"type": "object", "properties": {next(iter(given)): {"type": "string"}}}
        rows.append(
            {
                "messages": [
                    {"role": "user", "content": asked},
                    {"role": "assistant", "content": None, "tool_calls": [call]},
                    {"role": "tool", "tool_call_id": call["id"], "content": answered},
                    {"role": "assistant", "content": answered},
                ],
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "resultado", "parameters": parameters},
                    }
                ],
            }
        )
    return rows


def sharegpt_tools() -> list[dict[str, Any]]:
    return [
        {
            "conversations": [
                {"from": "human", "value": asked},
                {"from": "function_call", "value": '{"name": "resultado", "arguments": {"n": 1}}'},
                {"from": "observation", "value": answered},
                {"from": "gpt", "value": answered},
            ],
            "tools": '[{"name": "resultado", "parameters": {"type": "object"}}]',
        }
        for asked, answered in ASKED
    ]


def sharegpt() -> list[dict[str, Any]]:
    return [
        {
            "id": f"c{number}",
            "system": "Responde em português.",
            "conversations": [
                {"from": "human", "value": "Olá!"},
                {"from": "gpt", "value": "Bom dia."},
                {"from": "human", "value": asked},
                {"from": "chatgpt", "value": answered},
            ],
        }
        for number, (asked, answered) in enumerate(ASKED)
    ]


def alpaca() -> list[dict[str, Any]]:
    return [
        {"instruction": "Responde à pergunta.", "input": asked, "output": answered}
        for asked, answered in ASKED
    ]


# What a file is called, how it is written, its rows; the form that is taken, and by what.
FORMS: dict[str, tuple[str, Write, list[dict[str, Any]], str, str]] = {
    "ours": ("a.jsonl", lines, pairs("prompt", "completion"), "farense", "columns prompt, comp"),
    "packed": ("a.jsonl.gz", packed, pairs("prompt", "completion"), "farense", "columns prompt"),
    "texts": ("a.json", array, [{"text": text} for _, text in ASKED], "texts", "column text"),
    "array of Alpaca": ("a.json", array, alpaca(), "Alpaca", "columns instruction, input, output"),
    "CSV": ("a.csv", table, pairs("question", "answer"), "question and answer", "columns question"),
    "capitals": ("a.csv", table, pairs("Question", "Answer"), "question and answer", "Question, A"),
    "semicolons": ("a.txt", semicolons, pairs("pergunta", "resposta"), "pergunta", "resposta"),
    "TSV": ("a.tsv", tabs, pairs("prompt", "response", tipo="v"), "prompt and response", "prompt"),
    "Parquet": ("a.parquet", parquet, pairs("input", "output"), "input and output", "input"),
    "ShareGPT": ("a.json", array, sharegpt(), "ShareGPT", "columns conversations, system"),
    "OpenAI": ("a.jsonl", lines, messages(), "chat messages", "column messages"),
    "tools": ("t.jsonl", lines, with_tools(), "chat messages", "column messages"),
    "tools, objects": ("t.json", array, with_tools(dict), "chat messages", "column messages"),
    "tools in Parquet": ("t.parquet", parquet, with_tools(dict), "chat messages", "messages"),
    "tools of ShareGPT": ("t.jsonl", lines, sharegpt_tools(), "ShareGPT", "column conversations"),
    "messages in Parquet": ("b.parquet", parquet, messages(tipo="v"), "chat messages", "messages"),
}


def write_form(name: str, folder: Path) -> Path:
    """Write the file of a form into a folder."""
    file, write, rows, *_ = FORMS[name]
    return write(folder / file, rows)
