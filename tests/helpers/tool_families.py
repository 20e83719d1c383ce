"""Chat templates that write tools and reasoning, in the manner of real families of models."""

from __future__ import annotations

from tests.helpers.families import CHATML, EMPTY, OFF, THINK, Family

TOOLS_IN_SYSTEM = (
    "{% if tools %}<|im_start|>system\n"
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}\n\n{% endif %}"
    "# Tools\n<tools>{% for tool in tools %}{{ '\n' }}{{ tool | tojson }}{% endfor %}"
    "{{ '\n' }}</tools><|im_end|>\n"
    "{% elif messages[0].role == 'system' %}"
    "<|im_start|>system\n{{ messages[0].content }}<|im_end|>\n{% endif %}"
)
CALLS = (
    "{% for call in m.tool_calls %}"
    "{% if not loop.first or m.content %}{{ '\n' }}{% endif %}"
    "{% set f = call.function if call.function else call %}"
    '<tool_call>\n{"name": "{{ f.name }}", "arguments": '
    "{{ f.arguments if f.arguments is string else f.arguments | tojson }}}\n</tool_call>"
    "{% endfor %}"
)
# Answers of tools that follow each other stand in one turn of the user.
RESPONSES = (
    "{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}"
    "{{ '\n' }}<tool_response>\n{{ m.content }}\n</tool_response>"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>\n{% endif %}"
)


def _hermes(answer: str, opening: str = "") -> str:
    return (
        TOOLS_IN_SYSTEM + "{% for m in messages %}"
        "{% if m.role == 'user' or (m.role == 'system' and not loop.first) %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
        "{% elif m.role == 'assistant' %}" + answer + "{% elif m.role == 'tool' %}" + RESPONSES +
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n" + opening + "{% endif %}"
    )  # fmt: skip


# What was thought since the last question is written, and before it is not.
THOUGHT = (
    "{% set question = namespace(last=0) %}{% for m in messages %}"
    "{% if m.role == 'user' %}{% set question.last = loop.index0 %}{% endif %}{% endfor %}"
)
QWEN3_ANSWER = (
    "{% set thought = m.reasoning_content if m.reasoning_content else '' %}"
    "<|im_start|>assistant\n"
    "{% if loop.index0 > question.last and (loop.last or thought) %}"
    "<think>\n{{ thought.strip('\n') }}\n</think>\n\n{% endif %}"
    "{{ m.content }}" + CALLS + "<|im_end|>\n"
)
LLAMA_TOOLS = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{% set system = messages[0].content | trim %}{% set turns = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "<|start_header_id|>system<|end_header_id|>\n\n"
    "{% if tools %}Environment: ipython\n{% endif %}{{ system }}<|eot_id|>"
    "{% for m in turns %}{% if m.role == 'user' and loop.first and tools %}"
    "<|start_header_id|>user<|end_header_id|>\n\n"
    "{% for tool in tools %}{{ tool | tojson }}\n\n{% endfor %}{{ m.content | trim }}<|eot_id|>"
    "{% elif m.role not in ['tool', 'ipython'] and 'tool_calls' not in m %}"
    "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
    "{% elif 'tool_calls' in m %}"
    "{% if m.tool_calls | length != 1 %}"
    "{{ raise_exception('This model only supports single tool-calls at once!') }}{% endif %}"
    "{% set f = m.tool_calls[0].function %}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
    '{"name": "{{ f.name }}", "parameters": {{ f.arguments | tojson }}}<|eot_id|>'
    "{% else %}<|start_header_id|>ipython<|end_header_id|>\n\n{{ m.content | tojson }}<|eot_id|>"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL_TOOLS = (
    "{{ bos_token }}{% set system = '' %}{% set turns = messages %}"
    "{% if messages[0].role == 'system' %}"
    "{% set system = messages[0].content + '\n\n' %}{% set turns = messages[1:] %}{% endif %}"
    "{% for m in turns %}{% if m.role == 'user' %}"
    "{% if loop.first and tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]"
    "{% endif %}"
    "[INST]{% if loop.first %}{{ system }}{% endif %}{{ m.content }}[/INST]"
    "{% elif m.role == 'assistant' and m.tool_calls is defined %}[TOOL_CALLS]["
    "{% for call in m.tool_calls %}"
    "{% if call.id is not defined or call.id | length != 9 %}"
    "{{ raise_exception('Tool call IDs should be strings with length 9!') }}{% endif %}"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}, '
    '"id": "{{ call.id }}"}{{ ", " if not loop.last }}{% endfor %}]{{ eos_token }}'
    "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}"
    "{% elif m.role == 'tool' %}[TOOL_RESULTS]"
    '{"content": {{ m.content }}, "call_id": "{{ m.tool_call_id }}"}[/TOOL_RESULTS]'
    "{% else %}{{ raise_exception('Only user, assistant, system and tool roles!') }}{% endif %}"
    "{% endfor %}"
)
GEMMA_TOOLS = (
    "{{ bos_token }}{% set turns = messages %}"
    "{% if tools or messages[0].role in ['system', 'developer'] %}<start_of_turn>developer\n"
    "{% if messages[0].role in ['system', 'developer'] %}{{ messages[0].content | trim }}"
    "{% set turns = messages[1:] %}{% endif %}"
    "{% for tool in tools or [] %}<start_function_declaration>declaration:{{ tool.function.name }}"
    "<end_function_declaration>{% endfor %}<end_of_turn>\n{% endif %}"
    "{% set ns = namespace(open=false) %}{% for m in turns %}"
    "{% if m.role == 'tool' %}<start_function_response>response:{{ m.name }}{{ '{' }}value:"
    "{{ m.content }}{{ '}' }}<end_function_response>{% set ns.open = true %}"
    "{% else %}{% if m.role == 'assistant' %}"
    "{% if not ns.open %}<start_of_turn>model\n{% endif %}{{ m.content | trim }}"
    "{% for call in m.tool_calls or [] %}"
    "<start_function_call>call:{{ call.function.name }}{{ '{' }}"
    "{% for key, value in call.function.arguments.items() %}{{ key }}:{{ value }}"
    "{{ ',' if not loop.last }}{% endfor %}{{ '}' }}<end_function_call>{% endfor %}"
    "{% if m.tool_calls %}{% if loop.last %}<start_function_response>{% endif %}"
    "{% set ns.open = true %}"
    "{% else %}<end_of_turn>\n{% set ns.open = false %}{% endif %}"
    "{% else %}<start_of_turn>{{ m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endif %}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt and not ns.open %}<start_of_turn>model\n{% endif %}"
)
MARKED_ANSWER = (
    "<|im_start|>assistant\n{% generation %}"
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n{% endif %}"
    "{{ m.content }}" + CALLS + "<|im_end|>{% endgeneration %}{{ '\n' }}"
)

TOOL_FAMILIES: dict[str, Family] = {
    "chatml": Family(
        _hermes("<|im_start|>assistant\n{{ m.content }}" + CALLS + "<|im_end|>\n"),
        CHATML,
        "<|im_end|>",
        "<|im_start|>assistant\n",
        "Em Faro.<|im_end|>",
    ),
    "llama3": Family(
        LLAMA_TOOLS,
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"),
        "<|end_of_text|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "Em Faro.<|eot_id|>",
        ends=("<|end_of_text|>", "<|eot_id|>"),
        adds_bos=True,
    ),
    "mistral": Family(
        MISTRAL_TOOLS,
        (
            *("[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
            *("[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
        ),
        "</s>",
        "[/INST]",
        " Em Faro.</s>",
        adds_bos=True,
    ),
    "gemma": Family(
        GEMMA_TOOLS,
        (
            *("<start_of_turn>", "<end_of_turn>"),
            *("<start_function_declaration>", "<end_function_declaration>"),
            *("<start_function_call>", "<end_function_call>"),
            *("<start_function_response>", "<end_function_response>"),
        ),
        "</s>",
        "<start_of_turn>model\n",
        "Em Faro.<end_of_turn>",
        ends=("</s>", "<end_of_turn>", "<start_function_response>"),
        adds_bos=True,
    ),
    "qwen3": Family(
        THOUGHT + _hermes(QWEN3_ANSWER, "{% if " + OFF + " %}" + EMPTY + "{% endif %}"),
        (*CHATML, *THINK),
        "<|im_end|>",
        "<|im_start|>assistant\n" + EMPTY,
        "Em Faro.<|im_end|>",
    ),
    "marked": Family(
        _hermes(MARKED_ANSWER),
        (*CHATML, *THINK),
        "<|im_end|>",
        "<|im_start|>assistant\n",
        "Em Faro.<|im_end|>",
    ),
}
