#!/usr/bin/env python3
"""Writes BANKING77 questions as token examples for the benchmarks: the question as prompt, its intent as response.

By hand only; needs: pip install tokenizers.

    banking77_examples.py TRAIN.csv TOKENIZER.json OUT.jsonl [--examples 512]

A record is the chat form of SmolLM2 without a system turn; the response is the intent in words with the end of its turn.
"""
import argparse
import csv
import json
import random

from tokenizers import Tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("tokenizer")
    parser.add_argument("out")
    parser.add_argument("--examples", type=int, default=512)
    a = parser.parse_args()
    tokenizer = Tokenizer.from_file(a.tokenizer)
    with open(a.train, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    random.Random(7).shuffle(rows)
    with open(a.out, "w", encoding="utf-8") as out:
        for row in rows[:a.examples]:
            text = " ".join(row["text"].split())
            prompt = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
            response = row["category"].replace("_", " ") + "<|im_end|>\n"
            first = tokenizer.encode(prompt, add_special_tokens=False).ids
            second = tokenizer.encode(response, add_special_tokens=False).ids
            out.write(json.dumps({"tokens": first + second, "response_from": len(first)}) + "\n")
    print(f"{a.out}: {min(a.examples, len(rows))} examples")


if __name__ == "__main__":
    main()
