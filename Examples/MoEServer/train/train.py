#!/usr/bin/python3
"""Trains the model of this example on the licence texts that Debian's base-files brings.

    apt-get install python3-torch
    train/train.py

writes Model/model.safetensors (bf16) and Tests/MoEServerTests/Fixtures/pytorch.json: what PyTorch computes
with exactly these weights, for the tests of the Swift model. Some ten minutes on two cores.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import time

import torch
from torch.nn import functional as F

import safetensors
from model import Configuration, Model

EXAMPLE = pathlib.Path(__file__).resolve().parent.parent
LICENCES = pathlib.Path("/usr/share/common-licenses")
# Begins every text, and so ends the one before.
BOUNDARY = 0
PROMPTS = [
    "This program is free software",
    "      Copyright (C) ",
    "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION\n\n   1. Definitions.\n\n",
    "x",
]


def read_corpus():
    """All licences once: some names are links to others."""
    text = bytearray()
    for path in sorted(LICENCES.iterdir()):
        if path.is_file() and not path.is_symlink():
            text += bytes([BOUNDARY]) + path.read_bytes()
    return torch.tensor(list(text), dtype=torch.long)


def train(model, corpus, c, options):
    generator = torch.Generator().manual_seed(options.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0, betas=(0.9, 0.95), weight_decay=0.05)
    begin = time.monotonic()
    for step in range(options.steps):
        warm = min(1, (step + 1) / 40)
        decay = 0.5 * (1 + math.cos(math.pi * step / options.steps))
        for group in optimizer.param_groups:
            group["lr"] = options.rate * warm * (0.05 + 0.95 * decay)
        length = options.length
        starts = torch.randint(len(corpus) - length, (options.batch,), generator=generator)
        windows = torch.stack([corpus[start : start + length + 1] for start in starts])
        # A prompt begins with the boundary: a part of the windows do so too.
        windows[: options.batch // 4, 0] = BOUNDARY
        logits, balance = model(windows[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        (loss + 0.02 * balance).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
        if step % 20 == 0 or step == options.steps - 1:
            print(
                f"step {step} loss {loss.item():.3f} balance {balance.item():.3f}"
                f" {time.monotonic() - begin:.0f} s", flush=True)


@torch.no_grad()
def reference(model, c):
    """Logits behind each prompt, the most likely byte at each position, and a greedy continuation."""
    cases = []
    for prompt in PROMPTS:
        tokens = [BOUNDARY] + list(prompt.encode())
        logits, _ = model(torch.tensor([tokens]))
        case = {
            "prompt": prompt,
            "logits": [round(value, 5) for value in logits[0, -1].tolist()],
            "likeliest": logits[0].argmax(-1).tolist(),
        }
        continued = list(tokens)
        for _ in range(64):
            following, _ = model(torch.tensor([continued]))
            continued.append(following[0, -1].argmax().item())
        case["continuation"] = continued[len(tokens):]
        cases.append(case)
    return cases


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=pathlib.Path, default=EXAMPLE / "Model/model.safetensors")
    parser.add_argument(
        "--fixture", type=pathlib.Path,
        default=EXAMPLE / "Tests/MoEServerTests/Fixtures/pytorch.json")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    c = Configuration()
    model = Model(c)
    corpus = read_corpus()
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(corpus)} bytes of text")
    train(model, corpus, c, options)

    # What is written is what the reference is computed with.
    tensors = {}
    for name, parameter in model.named_parameters():
        tensors[name] = parameter.detach().to(torch.bfloat16)
        parameter.data = tensors[name].float()
    metadata = {name: str(value) for name, value in dataclasses.asdict(c).items()}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    safetensors.write(options.output, tensors, metadata)
    options.fixture.parent.mkdir(parents=True, exist_ok=True)
    cases = reference(model, c)
    options.fixture.write_text(json.dumps(cases, separators=(",", ":")) + "\n")
    for case in cases:
        print(repr(case["prompt"] + bytes(case["continuation"]).decode(errors="replace")))


if __name__ == "__main__":
    main()
