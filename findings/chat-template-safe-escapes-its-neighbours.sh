#!/usr/bin/env bash
# Chat templates: `tojson | safe` added to a text turns the quotes of the text into HTML's entities.
#
# Software: transformers 5.23.0 with Jinja2 3.1.6 (tokenizers 0.23.3), Python 3.11.
# Input: a tool call whose arguments are an object, as transformers' documentation asks for, and a
#   template that writes `'{"arguments": ' + arguments | tojson | safe + '}'`. The templates that
#   Mistral publishes for its tokenizers v2 to v7 are written so.
# Seen: {&#34;arguments&#34;: {"n": 2}} -- the object is right, and the text around it is escaped,
#   although transformers' environment escapes nothing by itself. `safe` makes a Markup of a string,
#   and a Markup that is added to a string escapes that string. Without `safe`, or with arguments that
#   are text already, all of it is JSON.
# Expected: `safe` to change nothing where nothing is escaped.
# So: a model is trained, or asked, with calls in a form that it has never seen and that no parser
#   reads. Such templates want the arguments as text.
# Fails once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  transformers==5.23.0 jinja2==3.1.6 tokenizers==0.23.3
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys

import jinja2
import transformers
from tokenizers import Tokenizer, models

TEMPLATE = (
    "{% for message in messages %}{% for call in message.tool_calls %}"
    "{% set a = call.function.arguments %}{% if a is not string %}{% set a = FILTERED %}{% endif %}"
    """{{ '{"arguments": ' + a + '}' }}{% endfor %}{% endfor %}"""
)


def written(filtered, arguments):
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE()),
        chat_template=TEMPLATE.replace("FILTERED", filtered),
    )
    call = {"type": "function", "function": {"name": "goals", "arguments": arguments}}
    messages = [{"role": "assistant", "content": "", "tool_calls": [call]}]
    return tokenizer.apply_chat_template(messages, tokenize=False)


print("transformers", transformers.__version__, "Jinja2", jinja2.__version__)
found = {}
for filtered in ("a | tojson", "a | tojson | safe"):
    for arguments in ({"n": 2}, json.dumps({"n": 2})):
        found[filtered, type(arguments).__name__] = text = written(filtered, arguments)
        print(f"{filtered:18} {arguments!r:12} {text}")
right = '{"arguments": {"n": 2}}'
wrong = {key for key, text in found.items() if text != right}
escaped = found["a | tojson | safe", "dict"] == '{&#34;arguments&#34;: {"n": 2}}'
sys.exit(not (escaped and wrong == {("a | tojson | safe", "dict")}))
PYTHON
