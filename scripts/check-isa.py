#!/usr/bin/env python3
"""Checks the machine code of libmoriep_amd.so, and prints what each kernel takes.

    scripts/check-isa.py [--write] [LIBRARY]

For every GPU that the library has code for: no spills, no scratch; 16-byte loads and stores in the
kernels that move rows; the cache operations of system-scope acquire and release where the protocol
has them; and before the barrier of `Block::publish` a release in every wave. Exits with 1 if any of
it is missing. `--write` stores the table in docs/kernels-isa.md; without it, a table that differs
from the stored one is a warning, because compilers differ.
"""

import difflib
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "kernels-isa.md"
BUNDLE_MAGIC = b"__CLANG_OFFLOAD_BUNDLE__"
COMPRESSED_MAGIC = b"CCOB"

# What is asked of a kernel, by what its name contains.
MOVES_ROWS = ("dispatch_send", "dispatch_forward", "dispatch_unpack", "combine_send",
              "combine_forward", "combine_reduce")
RELEASES = ("dispatch_begin", "dispatch_send", "dispatch_forward", "combine_send",
            "combine_forward")
ACQUIRES = ("dispatch_begin", "dispatch_send", "dispatch_forward", "dispatch_receive",
            "dispatch_unpack", "combine_send", "combine_wait", "combine_forward",
            "combine_receive", "combine_reduce")
PUBLISHES = ("dispatch_send", "dispatch_forward", "combine_send", "combine_forward")

# The instructions of system scope, by GPU. Before gfx940 the scope is not in the instruction.
SYSTEM_RELEASE = {"gfx90a": r"buffer_wbl2\b", "": r"buffer_wbl2 sc0 sc1"}
SYSTEM_ACQUIRE = {"gfx90a": r"buffer_invl2\b", "": r"buffer_inv sc0 sc1"}

COLUMNS = (
    ("VGPRs", "vgpr_count"),
    ("AGPRs", "agpr_count"),
    ("SGPRs", "sgpr_count"),
    ("VGPR spills", "vgpr_spill_count"),
    ("SGPR spills", "sgpr_spill_count"),
    ("scratch", "private_segment_fixed_size"),
    ("LDS", "group_segment_fixed_size"),
)


def fail(message):
    sys.exit(f"check-isa: {message}")


def find_tool(name):
    """ROCm's LLVM first, then any version of the distribution's."""
    rocm = pathlib.Path(os.environ.get("ROCM_PATH", "/opt/rocm")) / "llvm" / "bin" / name
    if rocm.exists():
        return str(rocm)
    for version in (19, 20, 21, 22, 18, 17):
        found = shutil.which(f"{name}-{version}")
        if found:
            return found
    found = shutil.which(name)
    if found is None:
        fail(f"{name} is missing; scripts/setup.sh kernels installs it")
    return found


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def code_objects(library, folder):
    """The code objects in a library, by GPU: {"gfx942": [path, ...]}."""
    section = folder / "fatbin"
    subprocess.run(
        [find_tool("llvm-objcopy"), "-O", "binary", "--only-section=.hip_fatbin", str(library),
         str(section)], check=True)
    data = section.read_bytes()
    if data[:4] == COMPRESSED_MAGIC:
        fail("the code objects are compressed; build with --no-offload-compress")
    objects = {}
    # One bundle for each source with kernels, each starting on a page of its own.
    begin = data.find(BUNDLE_MAGIC)
    while begin >= 0:
        at = begin + len(BUNDLE_MAGIC)
        (count,) = struct.unpack_from("<Q", data, at)
        at += 8
        for _ in range(count):
            offset, size, name_bytes = struct.unpack_from("<QQQ", data, at)
            at += 24
            triple = data[at:at + name_bytes].decode()
            at += name_bytes
            match = re.search(r"(gfx[0-9a-f]+)", triple)
            if match is None or size == 0:
                continue  # the host's part, which is empty
            path = folder / f"{match.group(1)}.{begin}.co"
            path.write_bytes(data[begin + offset:begin + offset + size])
            objects.setdefault(match.group(1), []).append(path)
        begin = data.find(BUNDLE_MAGIC, at)
    return objects


def resources(code_object):
    """What the metadata of a code object says of each kernel."""
    notes = output_of(find_tool("llvm-readelf"), "--notes", str(code_object))
    kernels = {}
    section = re.search(r"^amdhsa\.kernels:\n(.*?)^\S", notes, re.MULTILINE | re.DOTALL)
    if section is None:
        fail(f"no kernels in the notes of {code_object.name}")
    for entry in re.split(r"^  - ", section.group(1), flags=re.MULTILINE)[1:]:
        fields = dict(re.findall(r"^ *\.(\w+): +(\S+)$", entry, re.MULTILINE))
        name = re.search(r"^ {4}\.name: +(\S+)$", entry, re.MULTILINE).group(1)
        kernels[name] = {key: int(fields.get(key, 0)) for _, key in COLUMNS}
    return kernels


def instructions(code_object):
    """The instructions of each kernel, as text."""
    listing = output_of(find_tool("llvm-objdump"), "-d", "--no-leading-addr",
                        "--no-show-raw-insn", str(code_object))
    kernels = {}
    current = None
    for line in listing.splitlines():
        label = re.match(r"^(?:[0-9a-f]+ )?<(\w+)>:$", line)
        if label:
            current = kernels.setdefault(label.group(1), [])
        elif current is not None and line.strip():
            current.append(re.sub(r"\s*//.*$", "", line).strip())
    return kernels


def for_gpu(patterns, gpu):
    return patterns.get(gpu, patterns[""])


def publishes(code, release):
    """Whether some barrier comes right behind a release and the wait for it."""
    for number, instruction in enumerate(code):
        if not instruction.startswith("s_barrier"):
            continue
        before = code[max(0, number - 8):number]
        released = [at for at, text in enumerate(before) if re.search(release, text)]
        if released and any("vmcnt(0)" in text for text in before[released[-1]:]):
            return True
    return False


def check_kernel(gpu, name, numbers, code):
    """What is wrong with a kernel, in words."""
    wrong = []
    for label, key in COLUMNS:
        if key in ("vgpr_spill_count", "sgpr_spill_count", "private_segment_fixed_size"):
            if numbers[key] != 0:
                wrong.append(f"{label}: {numbers[key]}")
    asks = lambda names: any(part in name for part in names)
    if asks(MOVES_ROWS):
        if count(code, "global_load_dwordx4") == 0:
            wrong.append("no 16-byte loads")
        if count(code, "global_store_dwordx4") == 0:
            wrong.append("no 16-byte stores")
    release = for_gpu(SYSTEM_RELEASE, gpu)
    acquire = for_gpu(SYSTEM_ACQUIRE, gpu)
    if asks(RELEASES) and not any(re.search(release, text) for text in code):
        wrong.append("no release at system scope")
    if asks(ACQUIRES) and not any(re.search(acquire, text) for text in code):
        wrong.append("no acquire at system scope")
    if asks(PUBLISHES) and not publishes(code, release):
        wrong.append("no barrier behind a release that was waited for")
    return [f"{gpu} {name}: {text}" for text in wrong]


def count(code, mnemonic):
    return sum(text.startswith(mnemonic) for text in code)


def table_of(gpu, kernels, code):
    header = ["kernel"] + [label for label, _ in COLUMNS] + ["16-byte loads", "16-byte stores"]
    rows = [header]
    for name, numbers in kernels.items():
        rows.append([f"`{name}`"] + [str(numbers[key]) for _, key in COLUMNS] +
                    [str(count(code[name], "global_load_dwordx4")),
                     str(count(code[name], "global_store_dwordx4"))])
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]

    def line(cells):
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:])]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join(
        ("-" * (width + 2)) if column == 0 else ("-" * (width + 1) + ":")
        for column, width in enumerate(widths)) + "|"
    return "\n".join([f"## {gpu}", "", line(rows[0]), rule] + [line(row) for row in rows[1:]])


def main():
    arguments = sys.argv[1:]
    write = "--write" in arguments
    paths = [argument for argument in arguments if argument != "--write"]
    library = pathlib.Path(paths[0]) if paths else ROOT / ".build/kernels/libmoriep_amd.so"
    if not library.exists():
        fail(f"{library} is missing; make kernels builds it")

    wrong = []
    parts = [
        "# What the kernels take",
        "",
        "Registers, memory and 16-byte accesses of every kernel of `libmoriep_amd.so`, read from",
        "its code objects by `scripts/check-isa.py` (`make test-isa`), which also fails on spills,",
        "on scratch, on row copies without 16-byte accesses and on missing fences. Scratch and LDS",
        "are bytes; LDS is what the kernel takes besides what its launch asks for.",
        "`scripts/check-isa.py --write` renews this page.",
    ]
    with tempfile.TemporaryDirectory() as folder:
        objects = code_objects(library, pathlib.Path(folder))
        if not objects:
            fail(f"{library} has no code objects")
        for gpu in sorted(objects):
            kernels, code = {}, {}
            for path in objects[gpu]:
                kernels |= resources(path)
                code |= instructions(path)
            for name, numbers in kernels.items():
                wrong += check_kernel(gpu, name, numbers, code[name])
            parts += ["", table_of(gpu, kernels, code)]
    text = "\n".join(parts) + "\n"
    print(text)

    if write:
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(text)
    stored = TABLE.read_text() if TABLE.exists() else ""
    if stored != text:
        print(f"warning: {TABLE.relative_to(ROOT)} says otherwise (another compiler, or --write "
              "was forgotten):")
        sys.stdout.writelines(difflib.unified_diff(
            stored.splitlines(True), text.splitlines(True), "stored", "now", n=0))
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    if wrong:
        sys.exit(1)
    print(f"{len(objects)} GPUs: no spills, no scratch, 16-byte rows, fences in place")


if __name__ == "__main__":
    main()
