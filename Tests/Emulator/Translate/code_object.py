"""Reads a code object for an AMD GPU: its segments, functions, kernels and their metadata."""

import dataclasses
import struct

import msgpack

BUNDLE_MAGIC = b"__CLANG_OFFLOAD_BUNDLE__"
PT_LOAD, PT_NOTE = 1, 4
SHT_SYMTAB, SHT_DYNSYM = 2, 11
STT_FUNC = 2
EM_AMDGPU = 224
NOTE_AMDGPU_METADATA = 32


class Refused(Exception):
    """The input is not what the emulator can run."""


@dataclasses.dataclass
class Kernel:
    """One kernel: where its descriptor lies in the image, and what its metadata says."""

    name: str
    descriptor: int
    metadata: dict


def fat_binaries(library):
    """The section of an ELF file of the host that the compiler puts the GPUs' code into."""
    if library[:4] != b"\x7fELF":
        raise Refused("this is no shared object")
    (sections_at,) = struct.unpack_from("<Q", library, 40)
    size, count, names = struct.unpack_from("<HHH", library, 58)
    sections = [
        struct.unpack_from("<IIQQQQIIQQ", library, sections_at + i * size) for i in range(count)]
    for name, _, _, _, offset, length, *_ in sections:
        at = sections[names][4] + name
        if library[at:library.index(b"\0", at)] == b".hip_fatbin":
            return library[offset:offset + length]
    raise Refused("no code for any AMD GPU in it")


def extract(library, gpu):
    """The code objects of one GPU: out of a shared object with fat binaries, or the file itself.

    `gpu` is a name like "gfx942". Raises Refused with the GPUs that there are.
    """
    if library[:4] == b"\x7fELF" and struct.unpack_from("<H", library, 18) == (EM_AMDGPU,):
        return [library]
    objects, found = [], set()
    library = fat_binaries(library)
    begin = library.find(BUNDLE_MAGIC)
    while begin >= 0:
        at = begin + len(BUNDLE_MAGIC)
        (count,) = struct.unpack_from("<Q", library, at)
        at += 8
        for _ in range(count):
            offset, size, name_bytes = struct.unpack_from("<QQQ", library, at)
            at += 24
            name = library[at:at + name_bytes].decode(errors="replace")
            at += name_bytes
            target = name.split("--")[-1].split(":")[0].rstrip("-")
            if target == gpu and size > 0:
                objects.append(library[begin + offset:begin + offset + size])
            found.add(target)
        begin = library.find(BUNDLE_MAGIC, begin + 1)
    if objects:
        return objects
    raise Refused(f"no code for {gpu} in it; there is code for {sorted(found) or 'no GPU'}")


class CodeObject:
    """A code object: `image` is its loaded segments, unrelocated."""

    def __init__(self, data):
        self.data = data
        program_at, section_at = struct.unpack_from("<QQ", data, 32)
        program_size, program_count, section_size, section_count = struct.unpack_from("<HHHH", data, 54)
        programs = [
            struct.unpack_from("<IIQQQQQQ", data, program_at + i * program_size)
            for i in range(program_count)
        ]
        sections = [
            struct.unpack_from("<IIQQQQIIQQ", data, section_at + i * section_size)
            for i in range(section_count)
        ]
        loads = [p for p in programs if p[0] == PT_LOAD]
        top = max(p[3] + p[6] for p in loads)
        self.image = bytearray((top + 4095) // 4096 * 4096)
        for _, _, offset, address, _, file_bytes, _, _ in loads:
            self.image[address:address + file_bytes] = data[offset:offset + file_bytes]
        self._read_symbols(sections)
        self._read_kernels(programs)

    def _read_symbols(self, sections):
        self.functions, self.symbols = {}, {}
        for _, kind, _, _, offset, size, link, _, _, _ in sections:
            if kind not in (SHT_SYMTAB, SHT_DYNSYM):
                continue
            strings = sections[link][4]
            for at in range(offset, offset + size, 24):
                name_at, info, _, _, value, bytes_ = struct.unpack_from("<IBBHQQ", self.data, at)
                begin = strings + name_at
                name = self.data[begin:self.data.index(b"\0", begin)].decode()
                self.symbols[name] = value
                if info & 15 == STT_FUNC and bytes_ > 0:
                    self.functions[name] = (value, bytes_)

    def _read_kernels(self, programs):
        self.kernels = []
        for kind, _, offset, _, _, size, _, _ in programs:
            if kind != PT_NOTE:
                continue
            at = offset
            while at < offset + size:
                name_bytes, value_bytes, note = struct.unpack_from("<III", self.data, at)
                value = at + 12 + (name_bytes + 3) // 4 * 4
                if note == NOTE_AMDGPU_METADATA:
                    metadata = msgpack.unpackb(self.data[value:value + value_bytes], raw=False)
                    for kernel in metadata["amdhsa.kernels"]:
                        self.kernels.append(
                            Kernel(kernel[".name"], self.symbols[kernel[".symbol"]], kernel))
                at = value + (value_bytes + 3) // 4 * 4
        if not self.kernels:
            raise Refused("a code object without kernels")

    @property
    def hash(self):
        """FNV-1a, 64 bits."""
        value = 0xCBF29CE484222325
        for byte in self.data:
            value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
        return value
