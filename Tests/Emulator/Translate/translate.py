#!/usr/bin/env python3
"""Translates the gfx942 code of a library of kernels, or a bare code object, for the emulator.

    TINYGRAD=CHECKOUT translate.py LIBRARY OUTPUT

Writes a shared object with one C function for each kind of instruction in the code, and for each code
object a table that says which of them runs each instruction (Machine/Translation.h).
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import code_object
import semantics

GPU = "gfx942"
HEADER = pathlib.Path(__file__).resolve().parent.parent / "Machine" / "Translation.h"
PIECES = 4
# Instructions with one rounding, which their functions say as a product and a sum.
FUSED = ("v_fma", "v_pk_fma", "v_div_fmas")


def argument_kind(kind):
    """The letter and axis of an argument's kind in the metadata."""
    if not kind.startswith("hidden_"):
        return "e", 0
    letter = {"hidden_block_count": "c", "hidden_group_size": "s"}.get(kind[:-2])
    if letter:
        return letter, "xyz".index(kind[-1])
    return {"hidden_grid_dims": "d", "hidden_dynamic_lds_size": "l"}.get(kind, "0"), 0


def translate(kernels, meanings):
    """The pattern's number plus 1 of each instruction, by its offset in words."""
    code = [0] * (len(kernels.image) // 4)
    for begin, size in kernels.functions.values():
        at = begin
        while at < begin + size:
            number, instruction_bytes = meanings.pattern(kernels.image, at)
            code[at // 4] = number + 1
            at += instruction_bytes
    return code


def tables_source(translated, meanings):
    """The C source of the tables: `translated` is [(code object, its code)]."""
    lines = ['#include "Translation.h"']
    for name, source, *_ in meanings.patterns:
        if source is not None:
            lines.append(f"extern void {name}();")
    lines.append("static const emulator_pattern patterns[] = {")
    for name, source, kind, size, buffers in meanings.patterns:
        function = f"(emulator_function){name}" if source is not None else "0"
        numbers = ",".join(map(str, buffers)) or "0"
        lines.append(f'{{{function},{kind},{size},{len(buffers)},{{{numbers}}},"{name}"}},')
    lines.append("};")
    for place, (kernels, code) in enumerate(translated):
        add_table(lines, place, kernels, code, len(meanings.patterns))
    lines.append("const emulator_translation *emulator_translation_table(uint32_t number) {")
    lines.append("switch (number) {")
    for place in range(len(translated)):
        lines.append(f"case {place}: return &table{place};")
    lines.append("default: return 0;\n}\n}")
    return "\n".join(lines)


def add_table(lines, place, kernels, code, pattern_count):
    """Adds the table of one code object."""
    lines.append(f"static const uint16_t code{place}[] = {{")
    for at in range(0, len(code), 32):
        lines.append(",".join(map(str, code[at:at + 32])) + ",")
    lines.append("};")
    for number, kernel in enumerate(kernels.kernels):
        entries = []
        for argument in kernel.metadata.get(".args", []):
            letter, axis = argument_kind(argument[".value_kind"])
            entries.append(f"{{{argument['.offset']},{argument['.size']},'{letter}',{axis}}}")
        lines.append(f"static const emulator_argument arguments{place}_{number}[] = {{{','.join(entries)}}};")
    lines.append(f"static const emulator_kernel kernels{place}[] = {{")
    for number, kernel in enumerate(kernels.kernels):
        metadata = kernel.metadata
        lines.append(
            f'{{"{kernel.name}",{kernel.descriptor},{metadata[".vgpr_count"]},{metadata[".sgpr_count"]},'
            f"{len(metadata.get('.args', []))},arguments{place}_{number}}},")
    lines.append("};")
    lines.append(
        f"static const emulator_translation table{place} = {{EMULATOR_TRANSLATION_VERSION,"
        f"{pattern_count},{kernels.hash}ull,{len(kernels.image)}ull,patterns,code{place},"
        f"{len(kernels.kernels)},0,kernels{place}}};")


def compile_all(sources, table, output):
    """Compiles the functions and the table into one shared object."""
    compiler = shutil.which("clang-19") or shutil.which("clang")
    if compiler is None:
        sys.exit("translate: clang is missing; scripts/setup.sh kernels installs it")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        # As tinygrad compiles them, but contracting a product and a sum only where the GPU does.
        flags = [
            compiler, "-O2", "-fPIC", "-ffreestanding", "-fno-math-errno",
            "-march=native", "-w", "-fno-strict-aliasing", f"-I{HEADER.parent}"]
        objects, running = [], []
        fused = [text for name, text in sources if name.startswith(FUSED)]
        others = [text for name, text in sources if not name.startswith(FUSED)]
        pieces = [fused] + [others[i::PIECES] for i in range(PIECES)]
        for number, text in enumerate(["\n".join(p) for p in pieces] + [table]):
            contract = "fast" if number == 0 else "off"
            source, target = folder / f"{number}.c", folder / f"{number}.o"
            source.write_text(text)
            objects.append(str(target))
            running.append(subprocess.Popen(
                [*flags, f"-ffp-contract={contract}", "-c", str(source), "-o", str(target)]))
            if len(running) == 2 and running.pop(0).wait() != 0:
                sys.exit("translate: the functions do not compile")
        for process in running:
            if process.wait() != 0:
                sys.exit("translate: the functions do not compile")
        new = output.with_name(output.name + ".new")
        subprocess.run([compiler, "-shared", "-Wl,-z,defs", *objects, "-lm", "-o", str(new)], check=True)
        new.replace(output)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    library, output = map(pathlib.Path, sys.argv[1:])
    begin = time.monotonic()
    try:
        objects = [code_object.CodeObject(data)
                   for data in code_object.extract(library.read_bytes(), GPU)]
    except code_object.Refused as refusal:
        sys.exit(f"translate: {library}: {refusal}")
    meanings = semantics.Semantics()
    translated_objects = [(kernels, translate(kernels, meanings)) for kernels in objects]
    sources = [(name, source) for name, source, *_ in meanings.patterns if source is not None]
    translated = time.monotonic()
    compile_all(sources, tables_source(translated_objects, meanings), output)
    print(
        f"translate: {sum(len(kernels.kernels) for kernels in objects)} kernels,"
        f" {sum(sum(map(bool, code)) for _, code in translated_objects)} instructions of"
        f" {len(meanings.patterns)} patterns; {translated - begin:.0f} s, compiled in"
        f" {time.monotonic() - translated:.0f} s", file=sys.stderr)


main()
