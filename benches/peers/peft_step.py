#!/usr/bin/env python3
"""Times LoRA training steps with transformers + PEFT, on random weights: the peer of `foedus-client bench train`.

By hand only; needs: pip install torch transformers peft. One JSON line on stdout, with the same keys as
`foedus-client bench train --json`. Two steps warm up and are not counted. With --examples (JSON lines of {"tokens",
"response_from"}) a step pads its examples to the longest, as PEFT users do; without, every token is random and counted.
"""
import argparse
import json
import statistics
import sys
import time
from pathlib import Path

SHAPES = {
    "smollm2-135m": dict(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                         num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True),
    "llama-3.2-1b": dict(vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
                         num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=True),
    "llama-3.1-8b": dict(vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
                         num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=False),
}
ALL = ["q", "k", "v", "o", "gate", "up", "down"]
WARM_UP = 2


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="smollm2-135m", choices=SHAPES)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--targets", default="q,v")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seq", type=int, default=256)
    parser.add_argument("--examples", type=Path)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--activation-checkpointing", default="none", choices=["none", "block"])
    return parser.parse_args()


def resident_mb(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 // 1_000_000
    return 0


def batches(a, vocabulary, torch):
    """Yields (inputs, attention mask, labels, real tokens, targets) of endless steps."""
    if a.examples is None:
        ids = torch.randint(0, vocabulary, (a.batch, a.seq), device=a.device)
        while True:
            yield ids, None, ids, ids.numel(), a.batch * (a.seq - 1)
    rows = [json.loads(line) for line in a.examples.read_text().splitlines()]
    while True:
        for first in range(0, len(rows) - a.batch + 1, a.batch):
            chosen = rows[first:first + a.batch]
            longest = max(len(row["tokens"]) for row in chosen)
            ids = torch.zeros((a.batch, longest), dtype=torch.long)
            mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
            for place, row in enumerate(chosen):
                tokens = torch.tensor(row["tokens"])
                ids[place, :len(tokens)], mask[place, :len(tokens)] = tokens, 1
                labels[place, row["response_from"]:len(tokens)] = tokens[row["response_from"]:]
            targets = int((labels[:, 1:] != -100).sum())
            yield ids.to(a.device), mask.to(a.device), labels.to(a.device), int(mask.sum()), targets


def adapted(a, torch):
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**SHAPES[a.shape], max_position_embeddings=8192, attn_implementation="sdpa", use_cache=False)
    torch.set_default_dtype(getattr(torch, a.dtype))
    with torch.device(a.device):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    names = ALL if a.targets == "all" else a.targets.split(",")
    lora = LoraConfig(r=a.rank, lora_alpha=2 * a.rank, lora_dropout=a.dropout, task_type="CAUSAL_LM",
                      target_modules=[f"{name}_proj" for name in names])
    model = get_peft_model(model, lora)
    if a.activation_checkpointing == "block":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return model.train()


def main():
    a = arguments()
    import torch

    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    model = adapted(a, torch)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0)
    on_gpu = a.device.startswith("cuda")
    loaded = resident_mb("VmRSS")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    steps = []
    source = batches(a, model.config.vocab_size, torch)
    for _ in range(a.steps + WARM_UP):
        ids, mask, labels, tokens, targets = next(source)
        begun = time.perf_counter()
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        value = float(loss.detach())
        if on_gpu:
            torch.cuda.synchronize()
        steps.append((time.perf_counter() - begun, tokens, targets, value))
    counted = steps[WARM_UP:]
    whole = sum(step[0] for step in counted)
    line = {
        "program": f"torch {torch.__version__}", "model": a.shape, "rank": a.rank, "targets": a.targets,
        "dropout": a.dropout, "device": a.device, "dtype": a.dtype, "threads": a.threads, "batch": a.batch, "seq": a.seq,
        "steps": a.steps, "checkpointing": a.activation_checkpointing,
        "trained_values": sum(parameter.numel() for parameter in trained),
        "seconds_median": statistics.median(step[0] for step in counted),
        "seconds_least": min(step[0] for step in counted),
        "tokens_per_second": sum(step[1] for step in counted) / whole,
        "target_tokens_per_second": sum(step[2] for step in counted) / whole,
        "memory_mb_loaded": loaded, "memory_mb_peak": resident_mb("VmHWM"),
        "losses": [step[3] for step in steps],
    }
    if on_gpu:
        line["device_memory_mb_peak"] = torch.cuda.max_memory_reserved() // 1_000_000
    print(json.dumps(line))


if __name__ == "__main__":
    sys.exit(main())
