#!/usr/bin/env python3
"""Trains the same steps with Foedus and with transformers + PEFT, and compares the losses.

    benches/peers/loss_curve.py MODEL EXAMPLES [--client PATH] [--steps 200] [--batch 2] [--targets q,v]

MODEL is a Hugging Face folder or a .gguf file, EXAMPLES the JSON lines that banking77_examples.py writes. Foedus goes first and
tells the lines of every step and its learning rate; PEFT starts from the same factors A (written by `foedus-client adapter new`)
and takes the same lines in the same order. f32, no dropout. Prints the losses at some steps and the relative difference of the
means over the last twenty; exits with 1 if it is above one percent. By hand only; needs: pip install torch transformers peft
(gguf for .gguf files).
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ALL = ["q", "k", "v", "o", "gate", "up", "down"]
SEED = 1  # of the factors A in `bench train`
WARM_UP = 2


def ours(a):
    command = [a.client, "bench", "train", "--model", a.model, "--examples", a.examples, "--targets", a.targets,
               "--batch", str(a.batch), "--steps", str(a.steps - WARM_UP), "--device", "cpu", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def adapter(a, folder):
    names = ALL if a.targets == "all" else a.targets.split(",")
    modules = ",".join(f"{name}_proj" for name in names)
    subprocess.run([a.client, "adapter", "new", "--model", a.model, "--rank", "16", "--alpha", "32", "--seed", str(SEED),
                    "--dropout", "0", "--target-modules", modules, "--out", folder], check=True, capture_output=True)


def theirs(a, rates, lines):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    path = Path(a.model)
    where = (str(path.parent), {"gguf_file": path.name}) if path.suffix == ".gguf" else (str(path), {})
    base = AutoModelForCausalLM.from_pretrained(where[0], dtype=torch.float32, attn_implementation="sdpa", **where[1])
    with tempfile.TemporaryDirectory() as folder:
        adapter(a, f"{folder}/start")
        model = PeftModel.from_pretrained(base, f"{folder}/start", is_trainable=True).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rates[0], weight_decay=0.0)
    rows = [json.loads(line) for line in Path(a.examples).read_text().splitlines()]
    losses = []
    for rate, chosen in zip(rates, lines):
        chosen = [rows[line - 1] for line in chosen]
        longest = max(len(row["tokens"]) for row in chosen)
        ids = torch.zeros((len(chosen), longest), dtype=torch.long)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
        for place, row in enumerate(chosen):
            tokens = torch.tensor(row["tokens"])
            ids[place, :len(tokens)], mask[place, :len(tokens)] = tokens, 1
            labels[place, row["response_from"]:len(tokens)] = tokens[row["response_from"]:]
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("examples")
    parser.add_argument("--client", default=HERE.parent.parent / "target/release/foedus-client")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--targets", default="q,v")
    a = parser.parse_args()
    line = ours(a)
    peer = theirs(a, line["learning_rates"], line["lines"])
    pairs = list(zip(line["losses"], peer))
    print(f"{'step':>6}{'foedus':>12}{'peft':>12}{'difference':>12}")
    for step in sorted({0, 1, 9, 49, 99, 149, len(pairs) - 1} & set(range(len(pairs)))):
        one, other = pairs[step]
        print(f"{step + 1:>6}{one:>12.6f}{other:>12.6f}{one / other - 1:>12.2e}")
    last = [statistics.mean(side) for side in zip(*pairs[-20:])]
    difference = abs(last[0] / last[1] - 1)
    print(f"mean of the last {len(pairs[-20:])}: {last[0]:.6f} and {last[1]:.6f}, {difference:.2e} apart")
    sys.exit(difference > 0.01)


if __name__ == "__main__":
    main()
