"""Writes safetensors files: 8 bytes of length, a JSON header, the tensors."""

import json
import struct

import torch

TYPES = {torch.float32: "F32", torch.bfloat16: "BF16"}


def write(path, tensors, metadata):
    """Writes tensors by name, and metadata of strings, little-endian and in order of names."""
    header, blobs, offset = {"__metadata__": metadata}, [], 0
    for name, tensor in sorted(tensors.items()):
        tensor = tensor.detach().contiguous()
        words = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
        blob = words.numpy().tobytes()
        header[name] = {
            "dtype": TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))
