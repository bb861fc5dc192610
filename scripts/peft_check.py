#!/usr/bin/env python3
"""Checks that adapters travel both ways between foedus-client and Hugging Face PEFT, with the same loss.

By hand only; needs: pip install torch transformers peft gguf, and a built target/release/foedus-client.

    scripts/peft_check.py MODEL [WORK]

MODEL is a Hugging Face folder or a .gguf file. Ours to theirs: foedus-client trains an adapter on all seven projections, PEFT
loads it. Theirs to ours: PEFT makes a random adapter, foedus-client loads it. Each time both programs evaluate the same text and
the losses must agree to 1e-4 nats.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

CLIENT = Path(__file__).parent.parent / "target/release/foedus-client"
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TEXTS = [
    "Lily and Tom went to the park. They saw a big red ball and wanted to play with it.",
    "One day, a little dog found a bone under the tree. He was very happy and ran home.",
    "The sun was warm. Mom made soup and everyone sat at the table to eat together.",
]


def load(path: Path):
    where = (str(path.parent), {"gguf_file": path.name}) if path.suffix == ".gguf" else (str(path), {})
    model = AutoModelForCausalLM.from_pretrained(where[0], dtype=torch.float32, **where[1])
    return model.eval(), AutoTokenizer.from_pretrained(where[0], **where[1])


def client(*arguments) -> dict:
    run = subprocess.run([str(CLIENT), *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(run.stdout.splitlines()[-1])


def loss(model, sequences) -> float:
    nats, count = 0.0, 0
    with torch.no_grad():
        for tokens in sequences:
            logits = model(torch.tensor([tokens])).logits[0].double()
            nats += torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(tokens[1:]), reduction="sum").item()
            count += len(tokens) - 1
    return nats / count


def compare(what: str, ours: float, theirs: float) -> bool:
    agree = abs(ours - theirs) < 1e-4
    print(f"{what}: foedus {ours:.6f}, peft {theirs:.6f}, difference {abs(ours - theirs):.1e} {'ok' if agree else 'WRONG'}")
    return agree


def main() -> None:
    path = Path(sys.argv[1])
    work = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    data = work / "text.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))

    base, tokenizer = load(path)
    sequences = [tokenizer(text)["input_ids"] for text in TEXTS]
    good = compare("base model", client("evaluate", "--model", path, "--data", data, "--json")["loss"], loss(base, sequences))

    client("train", "--model", path, "--data", data, "--out", work / "ours", "--target-modules", ",".join(TARGETS),
           "--steps", 20, "--learning-rate", 3e-3, "--json")
    ours = client("evaluate", "--model", path, "--adapter", work / "ours", "--data", data, "--json")["loss"]
    good &= compare("ours in PEFT", ours, loss(PeftModel.from_pretrained(base, work / "ours"), sequences))

    base, _ = load(path)
    config = LoraConfig(r=8, lora_alpha=24, target_modules=TARGETS, init_lora_weights=False, task_type="CAUSAL_LM")
    torch.manual_seed(7)
    theirs = get_peft_model(base, config).eval()
    theirs.save_pretrained(work / "theirs")
    loaded = client("evaluate", "--model", path, "--adapter", work / "theirs", "--data", data, "--json")["loss"]
    good &= compare("PEFT's in ours", loaded, loss(theirs, sequences))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
