"""What each instruction does, as C source: from tinygrad's emulator of AMD instructions.

tinygrad (https://github.com/tinygrad/tinygrad, MIT) derives the meaning of an instruction from AMD's
own pseudocode, and renders it as one C function for all instructions that differ only in their
operands. Nothing of it is part of this repository.
"""

import os
import sys

COMMIT = "a9069c177a"
HOW_TO_GET = (
    "TINYGRAD must name a checkout of tinygrad, whose test/mockgpu knows what AMD's instructions do:\n"
    "    git clone https://github.com/tinygrad/tinygrad ~/tinygrad\n"
    f"    git -C ~/tinygrad checkout {COMMIT}\n"
    "    TINYGRAD=~/tinygrad make test-emulated")

# What the machine runs itself; the names are those of `emulator_kind`.
FUNCTION, BARRIER, SLEEP = "EMULATOR_FUNCTION", "EMULATOR_BARRIER", "EMULATOR_SLEEP"
SKIP, ACCESS, WAIT, TIME = "EMULATOR_SKIP", "EMULATOR_ACCESS", "EMULATOR_WAIT", "EMULATOR_TIME"
CONTROL, PERMUTE = "EMULATOR_CONTROL", "EMULATOR_PERMUTE"

CACHE_MAINTENANCE = (0x28, 0x29, 0x3E, 0x3F)  # of MUBUF: wbl2, inv, wbinvl1, wbinvl1_vol
APERTURES = (235, 237)


def load_tinygrad():
    """tinygrad's emulator. Ends the program with what to do when it is not there."""
    folder = os.environ.get("TINYGRAD", "")
    if not os.path.isfile(os.path.join(folder, "test", "mockgpu", "amd", "emu.py")):
        sys.exit(HOW_TO_GET)
    os.environ["DEV"] = "CPU"
    sys.path.insert(0, folder)
    import test.mockgpu.amd.emu as emu
    from tinygrad.device import Device

    # Only the source is wanted; all functions are compiled together afterwards.
    class SourceOnly:
        cachekey = None

        def compile(self, source):
            return source.encode()

        compile_cached = compile

    renderer = Device["CPU"].renderer
    renderer.compiler = SourceOnly()
    emu.get_runtime = lambda device, program, cache=True: None
    return emu


def machines_own(word):
    """(kind, bytes) of an instruction that the machine runs itself; None: it is translated."""
    encoding = word >> 26
    if encoding == 0x37:
        return ACCESS, 8
    if encoding == 0x38 and (word >> 18) & 0x7F in CACHE_MAINTENANCE:
        return SKIP, 8
    if word >> 16 == 0xBF8C:
        return WAIT, 4
    if encoding == 0x30:
        operation = (word >> 18) & 255
        if operation in (0x24, 0x25):
            return TIME, 8
        if operation >= 0x20:
            return SKIP, 8
    if word >> 23 == 0x17D:
        operation = (word >> 8) & 255
        if operation in (0x1C, 0x1D, 0x1E) or (operation == 1 and word & 255 in APERTURES):
            return CONTROL, 4
    if word >> 28 == 0xB and (word >> 23) & 31 == 0x15:
        return CONTROL, 4
    if encoding == 0x36 and (word >> 17) & 127 in (0x3D, 0x3E, 0x3F):
        return PERMUTE, 8
    return None


class Semantics:
    """Collects the functions of all instructions that it is asked for."""

    def __init__(self):
        self.emu = load_tinygrad()
        self.patterns = []  # (name, source or None, kind, bytes, buffers)
        self._numbers = {}  # what identifies a pattern: its number
        self._known = {}  # first 12 bytes of an instruction: (pattern, bytes)

    def pattern(self, image, at):
        """(number of the pattern, bytes) of the instruction at an offset of an image."""
        key = bytes(image[at:at + 12])
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._make(image, at)
        return found

    def _number(self, key, pattern):
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.patterns)
            self.patterns.append(pattern)
        return number

    def _make(self, image, at):
        word = int.from_bytes(image[at:at + 4], "little")
        own = machines_own(word)
        if own is not None:
            kind, size = own
            return self._number(own, (kind.removeprefix("EMULATOR_").lower(), None, kind, size, ())), size
        code = bytes(image[at:at + 16]).ljust(16, b"\0")
        instruction = self.emu.decode_inst(code, "cdna")
        size = instruction.size()
        program, _ = self.emu._get_runner(code[:size + 4], "cdna")
        name = self.emu._op_name(instruction)
        kind = {"S_BARRIER": BARRIER, "S_SLEEP": SLEEP}.get(name, FUNCTION)
        source = next(part.arg for part in program.src if part.op.name == "SOURCE")
        number = self._number(
            program.arg.name, (program.arg.name, source, kind, size, tuple(program.arg.globals)))
        return number, size


if __name__ == "__main__":
    print(HOW_TO_GET)
