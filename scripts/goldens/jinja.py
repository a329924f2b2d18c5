#!/usr/bin/env python3
"""What transformers' own Jinja environment renders, for src/text/jinja: tests/golden/data/text/jinja.json.

usage: jinja.py OUT    needs transformers (5.23.0) and jinja2
"""
import importlib.metadata
import json
import pathlib
import sys

from transformers.utils.chat_template_utils import _compile_jinja_template

data = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/data/text/chat_templates"
TEMPLATES = {
    "loop": "{% for x in [1,2,3] %}{{ loop.index }}:{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}\n",
    "blocks": "a\n  {% if true %}\n  b\n  {% endif %}\nc",
    "dashes": "  {%- if x is defined %}d{%- else %}u{%- endif %}  z",
    "comment": "{#- c -#}  {{ 'x' }}  {#- d #}\n\ny",
    "texts": "{{ 'aXbX'.split('X')[-2] }}|{{ '  hi '|trim }}|{{ 'abc'[::-1] }}|{{ 'a\\nb' }}{{ \"q'\" }}{{ 'é😀'[1] }}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "macro": "{% macro f(a, b='q') %}<{{ a }}{{ b }}>{% endmacro %}{{ f('x') }}{{ f('y', b='z') }}",
    "json": "{{ {'a': [1, 'é', none, true]} | tojson }}{{ messages | tojson(indent=2) }}",
    "numbers": "{{ 7 // 2 }} {{ -7 % 3 }} {{ 'a' ~ 1 ~ true }} {{ 1 if false }}x{{ none }}{{ 3 > 2 and 'b' > 'a' }}",
    "items": "{% for k, v in {'a':1,'b':2}.items() %}{{k}}={{v}};{% endfor %}",
    "filter in loop": "{% for m in messages if m.role == 'user' %}{{ loop.index0 }}{{ m.content }}{% else %}none{% endfor %}",
    "set block": "{% set x %}hello {{ 1 }}{% endset %}{{ x|upper }}",
    "reversed": "{%- for message in messages[::-1] %}{%- set i = (messages|length - 1) - loop.index0 %}{{ i }}{%- endfor %}",
    "continue": "{% for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
    "tests": "{{ 'x' is string and 1 is number and none is none and {} is mapping and not 3 is string }}{{ 'z' not in 'abc' }}",
    "refuses": "{{ raise_exception('no') }}",
    "undefined": "{{ x.y }}",
}
for file in sorted(data.glob("*.jinja")):
    TEMPLATES[file.name] = file.read_text()
CHATS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": " S "}, {"role": "user", "content": "\n a \n"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nans"}],
    [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>x</think>y"}, {"role": "user", "content": "r"}],
    [{"role": "user", "content": "{{ x }} <|im_end|> \"' é中"}, {"role": "assistant", "content": ""}],
]

rows = []
for name, template in TEMPLATES.items():
    for chat in CHATS if ".jinja" in name else CHATS[1:2]:
        for prompt in (True, False) if ".jinja" in name else (True,):
            variables = {"messages": chat, "add_generation_prompt": prompt, "enable_thinking": prompt, "bos_token": "<B>", "eos_token": "</s>", "date_string": "26 Jul 2024"}
            try:
                want = _compile_jinja_template(template).render(**variables)
            except Exception:
                want = None
            rows.append({"name": name, "template": "" if ".jinja" in name else template, "variables": variables, "want": want})
versions = {name: importlib.metadata.version(name) for name in ("transformers", "jinja2")}
pathlib.Path(sys.argv[1]).write_text(json.dumps({"versions": versions, "rows": rows}, ensure_ascii=False, indent=0) + "\n")
