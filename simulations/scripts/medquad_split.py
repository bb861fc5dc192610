#!/usr/bin/env python3
"""Splits MedQuAD by four of its NIH sources into the folder that `foedus-sim run --data` reads.

Usage: medquad_split.py medquad.jsonl.gz OUT [--records 96] [--words 60] [--seed 7]

One JSONL file per source with prompt/completion records. At most one question per topic, so that no
topic is trained on and measured on; blanks are normalised; an answer is cut after the last whole sentence
within the limit of words, and dropped if its first sentence is longer. Standard library only.
"""

import argparse
import gzip
import json
import pathlib
import random
import re

SOURCES = {"CancerGov": "cancer", "GHR": "genetics", "NIDDK": "kidney-diabetes", "NINDS": "neurology"}


def shortened(text, words_max):
    """The whole sentences of a text within a number of words."""
    kept, count = [], 0
    for sentence in re.split(r"(?<=[.!?])\s+", " ".join(text.split())):
        count += len(sentence.split())
        if count > words_max:
            break
        kept.append(sentence)
    return " ".join(kept)


def records(path, source, arguments):
    """The records of one source, one per topic, in the order of the seed."""
    topics = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["source"] != source:
                continue
            answer = shortened(row["answer"], arguments.words)
            if len(answer.split()) >= 12 and answer[-1] in ".!?":
                prompt = " ".join(row["question"].replace(" ?", "?").split())
                topics.setdefault(row["focus"].lower(), []).append((prompt, answer))
    order = random.Random(f"{arguments.seed} {source}")
    chosen, answers = [], set()
    names = sorted(topics)
    order.shuffle(names)
    for name in names:
        prompt, answer = order.choice(topics[name])
        if answer not in answers:
            answers.add(answer)
            chosen.append({"prompt": prompt, "completion": answer})
    return chosen[: arguments.records]


def main():
    """Reads the command line and writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("medquad", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--records", type=int, default=96)
    parser.add_argument("--words", type=int, default=60)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for source, name in SOURCES.items():
        found = records(arguments.medquad, source, arguments)
        path = arguments.out / f"{name}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in found)
        words = sum(len(record["completion"].split()) for record in found) / len(found)
        print(f"{path}: {len(found)} records, {words:.0f} words an answer")


if __name__ == "__main__":
    main()
