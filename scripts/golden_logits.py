#!/usr/bin/env python3
"""Writes reference logits of a base model by transformers (float32, CPU), to compare the engine's with.

By hand only; needs: pip install torch transformers gguf (gguf for .gguf files).

    scripts/golden_logits.py MODEL OUT.json [TEXT...]

MODEL is a Hugging Face folder or a .gguf file. OUT.json: {"model", "cases": [{"tokens", "last_logits", "mean_nats"}]}, where
`last_logits` are all logits of the last position and `mean_nats` is the mean negative log-likelihood of tokens 1.. given
those before.
"""
import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXTS = [
    "Once upon a time, there was a little girl named Lily. She liked to play outside.",
    "The capital of France is",
    "The patient was admitted with chest pain and discharged after two days on aspirin 75 mg daily.",
]


def load(path: Path):
    where = (str(path.parent), {"gguf_file": path.name}) if path.suffix == ".gguf" else (str(path), {})
    model = AutoModelForCausalLM.from_pretrained(where[0], dtype=torch.float32, attn_implementation="eager", **where[1])
    return model.eval(), AutoTokenizer.from_pretrained(where[0], **where[1])


def main() -> None:
    path, out = Path(sys.argv[1]), Path(sys.argv[2])
    model, tokenizer = load(path)
    cases = []
    for text in sys.argv[3:] or TEXTS:
        tokens = tokenizer(text)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([tokens])).logits[0]
        nats = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(tokens[1:])).item()
        cases.append({"tokens": tokens, "last_logits": logits[-1].tolist(), "mean_nats": nats})
    out.write_text(json.dumps({"model": path.name, "cases": cases}))
    print(f"{out}: {len(cases)} cases, {len(cases[0]['last_logits'])} logits each")


if __name__ == "__main__":
    main()
