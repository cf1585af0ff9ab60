#!/usr/bin/env python3
"""Checks the machine code of libmoriep_amd.so, and prints what each kernel takes.

    scripts/check-isa.py [--write] [LIBRARY]

For every GPU that the library has code for:
  - no spills and no scratch; registers that a block of 16 warps, the largest, leaves to each lane;
    on gfx942 at most 64 of them in IntraNode's kernels, or a reason; block memory within 64 KiB
  - 16-byte loads and stores together in a loop, in the kernels that move rows
  - an acquire at system scope before the first load, in the grids that read what an earlier launch
    awaited, and behind a look at a word, in the launches that wait
  - before the barrier of `Block::publish` a release that every wave runs and waits for
  - before every word that peers or the proxy read, a release that was waited for, and no other
    store in between
Kernels that leave traces are held to the same, but for the 64 registers, and for a few scalar registers
that they may keep in the lanes of a vector register, which costs no memory.
Exits with 1 if any of it is missing. `--write` stores the table in docs/kernels-isa.md; without it,
a table that differs from the stored one is a warning, because compilers differ.
"""

import collections
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

KERNELS = ROOT / "Kernels" / "Runtime" / "GPU" / "Kernels.inc"
# What `make test-emulated` counted, and the line of the page that it stands below.
COUNTS = ROOT / ".build" / "kernels" / "instructions.md"
COUNTS_TITLE = "## Instructions that gfx942 runs"

# What is asked of a kernel, by what its name contains.
MOVES_ROWS = ("dispatch_send", "dispatch_forward", "dispatch_unpack", "combine_send",
              "combine_forward", "combine_reduce", "combine_own", "dispatch_place",
              "pack_experts", "sum_experts")
# A lane's vector is 8 values, of these types 8 bytes or 4 of factor times row.
NARROW = re.compile(r"sum_experts_float[48]_")
RELEASES = ("dispatch_begin", "dispatch_send", "dispatch_count", "dispatch_forward",
            "combine_send", "combine_forward")
ACQUIRES = ("dispatch_begin", "dispatch_send", "dispatch_forward", "dispatch_receive",
            "dispatch_order", "combine_wait", "combine_receive")
PUBLISHES = ("dispatch_send", "dispatch_count", "dispatch_forward", "combine_send",
             "combine_forward")

# Blocks of 16 waves: 4 on each SIMD, which has 512 registers for each lane.
GRID_REGISTERS = 128
WARP_REGISTERS = 512
BLOCK_MEMORY = 64 * 1024
LEAN_GPU, LEAN_REGISTERS = "gfx942", 64
# IntraNode's kernels that take more, and why.
LEAN_EXCEPTIONS = {
    "intranode_combine_reduce": "a lane has 12 loads of 16 bytes under way, which are 48 registers"
    " before the first sum",
}

# What kernels that leave traces are called, and scalars that they may keep in a vector register.
TRACED = "moriep_traced_"
TRACED_SPILLS = 4
# Stands among them, and is none of the verbs': it tells the time.
CLOCK = "moriep_read_clock"

# The instructions of system scope, by GPU. Before gfx940 the scope is not in the instruction.
SYSTEM_RELEASE = {"gfx90a": r"buffer_wbl2\b", "": r"buffer_wbl2 sc0 sc1"}
SYSTEM_ACQUIRE = {"gfx90a": r"buffer_invl2\b", "": r"buffer_inv sc0 sc1"}

# Words for peers: stores of 8 bytes at system scope. Before gfx940 no instruction tells them apart.
SYSTEM_STORE = {"gfx90a": None, "": r"(global|flat)_store_dwordx2\b.* sc0 sc1"}
SYSTEM_LOAD = {"gfx90a": None, "": r"(global|flat)_load_dwordx2\b.* sc0 sc1"}
STORE = r"(global|flat)_store_"
LOAD = r"(global|flat)_load_"

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
        keys = [key for _, key in COLUMNS] + ["max_flat_workgroup_size"]
        kernels[name] = {key: int(fields.get(key, 0)) for key in keys}
    return kernels


Instruction = collections.namedtuple("Instruction", "at text target")


def instructions(code_object):
    """The instructions of each kernel: address, text, and where a branch goes."""
    listing = output_of(find_tool("llvm-objdump"), "-d", "--no-leading-addr",
                        "--no-show-raw-insn", str(code_object))
    kernels = {}
    current = None
    for line in listing.splitlines():
        label = re.match(r"^(?:[0-9a-f]+ )?<(\w+)>:$", line)
        if label:
            current = kernels.setdefault(label.group(1), [])
            continue
        parts = re.match(r"^\s+(\S.*?)\s*// ([0-9A-F]+):[^<]*(?:<\w+(?:\+0x([0-9a-f]+))?>)?$", line)
        if current is None or parts is None:
            continue
        text, at, offset = parts.group(1), int(parts.group(2), 16), parts.group(3)
        target = None
        if text.startswith(("s_cbranch", "s_branch")):
            target = (current[0].at if current else at) + int(offset or "0", 16)
        current.append(Instruction(at, text, target))
    return kernels


def kinds_of_kernels():
    """How Kernels.inc declares each kernel: {"intranode_dispatch_send": "MORI_GRID"}."""
    return dict((name, kind) for kind, name in
                re.findall(r"^(MORI_\w+)\((\w+),", KERNELS.read_text(), re.MULTILINE))


def is_own(name):
    """Whether a kernel is one that every call may launch, not only one that is traced."""
    return not name.startswith(TRACED) and name != CLOCK


def kind_of(name, kinds):
    """The declaration of a kernel, which may be one of several element types."""
    if name == CLOCK:
        return "MORI_ONE_WARP"
    name = name.removeprefix(TRACED).removeprefix("moriep_")
    declared = [known for known in kinds if name == known or name.startswith(known + "_")]
    return kinds[max(declared, key=len)]


def for_gpu(patterns, gpu):
    return patterns.get(gpu, patterns[""])


def places(code, pattern):
    return [number for number, step in enumerate(code) if re.match(pattern, step.text)]


def publishes(code, release):
    """Whether some barrier comes right behind a release that every wave runs and waits for."""
    for number in places(code, r"s_barrier\b"):
        waited = False
        for step in reversed(code[max(0, number - 24):number]):
            if step.target is not None or re.match(STORE, step.text):
                break
            waited |= "vmcnt(0)" in step.text
            if re.match(release, step.text):
                if waited:
                    return True
                break
    return False


def unreleased_words(code, release, store):
    """Stores of words that no waited-for release stands before."""
    wrong = []
    for number in places(code, store):
        waited = False
        for step in reversed(code[:number]):
            if re.match(store, step.text):
                continue  # the words of one descriptor
            if re.match(release, step.text):
                break
            waited |= "vmcnt(0)" in step.text
            if re.match(STORE, step.text):
                waited = False
                break
        if not waited:
            wrong.append(code[number].text)
    return wrong


def moves_vectors_in_a_loop(code):
    """Whether a loop has both loads and stores of 16 bytes."""
    loads = [code[n].at for n in places(code, r"(global|flat)_load_dwordx4\b")]
    stores = [code[n].at for n in places(code, r"(global|flat)_store_dwordx4\b")]
    loops = [(step.target, step.at) for step in code
             if step.target is not None and step.target <= step.at]
    return any(any(begin <= at <= end for at in loads) and any(begin <= at <= end for at in stores)
               for begin, end in loops)


def check_registers(gpu, name, numbers, isGrid):
    wrong = []
    for label, key in COLUMNS:
        if key in ("vgpr_spill_count", "sgpr_spill_count", "private_segment_fixed_size"):
            may = TRACED_SPILLS if name.startswith(TRACED) and key == "sgpr_spill_count" else 0
            if numbers[key] > may:
                wrong.append(f"{label}: {numbers[key]}")
    # gfx90a and later have one file for both; the metadata counts them together.
    registers = numbers["vgpr_count"]
    most = GRID_REGISTERS if isGrid else WARP_REGISTERS
    if registers > most:
        wrong.append(f"{registers} vector registers; its largest block leaves {most}")
    threads = 1024 if isGrid else 64
    if numbers["max_flat_workgroup_size"] != threads:
        wrong.append(f"blocks of {numbers['max_flat_workgroup_size']} threads, not {threads}")
    if numbers["group_segment_fixed_size"] > BLOCK_MEMORY:
        wrong.append(f"{numbers['group_segment_fixed_size']} bytes of LDS")
    has_reason = name.startswith(TRACED) or any(part in name for part in LEAN_EXCEPTIONS)
    if gpu == LEAN_GPU and "intranode" in name and registers > LEAN_REGISTERS and not has_reason:
        wrong.append(f"{registers} vector registers; {LEAN_REGISTERS} are the aim")
    return wrong


def check_kernel(gpu, name, kind, numbers, code):
    """What is wrong with a kernel, in words."""
    wrong = check_registers(gpu, name, numbers, kind != "MORI_ONE_WARP")
    asks = lambda names: any(part in name for part in names)
    if asks(MOVES_ROWS) and not NARROW.search(name) and not moves_vectors_in_a_loop(code):
        wrong.append("no loop with 16-byte loads and stores")
    release = for_gpu(SYSTEM_RELEASE, gpu)
    acquire = for_gpu(SYSTEM_ACQUIRE, gpu)
    acquires = places(code, acquire)
    if asks(RELEASES) and not places(code, release):
        wrong.append("no release at system scope")
    if asks(ACQUIRES) and not acquires:
        wrong.append("no acquire at system scope")
    reads = kind in ("MORI_READING_GRID", "MORI_SUMMING_GRID", "MORI_WIRE_GRID")
    if reads and (not acquires or acquires[0] > places(code, LOAD)[0]):
        wrong.append("no acquire at system scope before the first load")
    if asks(PUBLISHES) and not publishes(code, release):
        wrong.append("no barrier behind a release that every wave runs and waits for")
    look = for_gpu(SYSTEM_LOAD, gpu)
    if name == CLOCK:
        return [f"{gpu} {name}: {text}" for text in wrong]
    if kind == "MORI_ONE_WARP" and look and acquires and acquires[-1] < places(code, look)[0]:
        wrong.append("no acquire at system scope behind a look at a word")
    word = for_gpu(SYSTEM_STORE, gpu)
    if word:
        wrong += [f"no release before {text}" for text in unreleased_words(code, release, word)]
    return [f"{gpu} {name}: {text}" for text in wrong]


def count(code, mnemonic):
    return sum(step.text.startswith(mnemonic) for step in code)


def table_of(title, kernels, code):
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
    return "\n".join([f"## {title}", "", line(rows[0]), rule] + [line(row) for row in rows[1:]])


def counted(stored):
    """The section that the emulator wrote: the new one, else the stored one."""
    if COUNTS.exists():
        return f"\n{COUNTS_TITLE}\n\n{COUNTS.read_text()}"
    begin = stored.find(f"\n{COUNTS_TITLE}\n")
    return stored[begin:] if begin >= 0 else ""


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
        "",
        "Kernels that leave [traces](tracing.md) are compiled beside the others, which have no instruction",
        f"for it. They may keep up to {TRACED_SPILLS} scalars in the lanes of a vector register, which the table",
        "counts as SGPR spills; `moriep_read_clock` tells the host what their clock says.",
        "",
        f"On {LEAN_GPU}, IntraNode's kernels take at most {LEAN_REGISTERS} VGPRs, but for:",
        "",
    ]
    parts += [f"* `{name}`: {reason}." for name, reason in LEAN_EXCEPTIONS.items()]
    stored = TABLE.read_text() if TABLE.exists() else ""
    counts = counted(stored)
    kinds = kinds_of_kernels()
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
                wrong += check_kernel(gpu, name, kind_of(name, kinds), numbers, code[name])
            own = {name: numbers for name, numbers in kernels.items() if is_own(name)}
            parts += ["", table_of(gpu, own, code)]
            traced = {name: numbers for name, numbers in kernels.items() if not is_own(name)}
            if traced:
                parts += ["", table_of(f"{gpu}, kernels that leave traces", traced, code)]
    text = "\n".join(parts) + "\n" + counts
    print(text)

    if write:
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(text)
        stored = text
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
