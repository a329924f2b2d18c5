#!/usr/bin/env python3
"""Golden of eval/benchmarks: the option that Cache-to-Cache's evaluator reads out of generated texts.

usage: benchmarks.py PATH/TO/C2C OUT.json    (a checkout of github.com/thu-nics/C2C; one function of it is run, nothing is copied)
"""
import ast
import json
import pathlib
import random
import re
import sys
from typing import Any, Dict, List, Optional

path = pathlib.Path(sys.argv[1]) / "rosetta/utils/evaluate.py"
tree = ast.parse(path.read_text(encoding="utf8"))
function = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "extract_answer_from_content")
scope = {"re": re, "Optional": Optional, "Any": Any, "Dict": Dict, "List": List}
exec(compile(ast.Module([function], []), str(path), "exec"), scope)

texts = [
    "", "   ", "A", "b", "B.", "(C)", "The answer is D", "the answer is: b, no, C", "Answer: A", "Answer:\n\nB because", "answer: none of them\nC",
    "Correct answer: Paris (B)", "I think C is right.", "C. Because of D.", "x + A = 2", "x - a", "so A - B", "The result is a dog", "Option: Dog",
    "Jibu: C", "Jibu lako: hapana B", "It is (A) or (B).", "Maybe A, maybe B, who knows!", "sin A", "using A", "Response: E then A", "CHOICE:D",
    "No letters here", "ABCD", "grade A student", "the answer is\n\n  c", "Your answer: c\nanswer: B", "a b c d", "D)", "A:", "d?", "mod C",
    "The correct answer is: (D) Denver", "E", "Answer - B", "A? B! C", "option b is wrong, option C", "Answer: because A", "Answer: Dad",
]
rng = random.Random(7)
pieces = ["A", "B", "C", "D", "a", "b", "c", "d", "Answer:", "the answer is", "option", "Choice:", "is", "not", ".", ",", "\n", "=", "+", "-", "(", ")", "E", "cat", "Dog", "?", "correct"]
texts += [" ".join(rng.choice(pieces) for _ in range(rng.randint(1, 9))) for _ in range(400)]
out = {"source": "thu-nics/C2C rosetta/utils/evaluate.py extract_answer_from_content",
       "cases": [{"text": t, "letter": scope["extract_answer_from_content"](t)} for t in texts]}
pathlib.Path(sys.argv[2]).write_text(json.dumps(out), encoding="utf8")
