#if MORI_EP_CHECKED

// The checker itself is not instrumented.
#pragma clang attribute push(__attribute__((disable_sanitizer_instrumentation)), \
                             apply_to = function)

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "Runtime/Host/Checked/Shadow.h"

namespace mori::host::races {

Cell* Region::cell(uint64_t address) {
    const size_t count = (end - begin + 3) / 4;
    if (cells == nullptr) {
        void* memory = mmap(nullptr,
                            count * sizeof(Cell),
                            PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                            -1,
                            0);
        if (memory == MAP_FAILED) std::abort();
        cells = static_cast<Cell*>(memory);
    }
    return cells + (address - begin) / 4;
}

void Region::clear() {
    if (cells == nullptr) return;
    madvise(cells, (end - begin + 3) / 4 * sizeof(Cell), MADV_DONTNEED);
}

void Region::release() {
    if (cells != nullptr) munmap(cells, (end - begin + 3) / 4 * sizeof(Cell));
    cells = nullptr;
}

namespace {

/// The functions of the program or library that holds the kernels, from its symbol table.
struct Symbols {
    struct Function {
        uint64_t begin, end;
        const char* name;
    };
    uint64_t base = 0;
    std::vector<Function> functions;

    explicit Symbols(const void* anyFunction) {
        Dl_info info{};
        if (dladdr(anyFunction, &info) == 0) return;
        const int file = open(info.dli_fname, O_RDONLY | O_CLOEXEC);
        struct stat status{};
        if (file < 0 || fstat(file, &status) != 0) return;
        const auto size = static_cast<size_t>(status.st_size);
        void* memory = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
        close(file);
        if (memory == MAP_FAILED) return;
        const char* bytes = static_cast<const char*>(memory);
        const auto* header = reinterpret_cast<const Elf64_Ehdr*>(bytes);
        const auto* sections = reinterpret_cast<const Elf64_Shdr*>(bytes + header->e_shoff);
        if (header->e_type == ET_DYN) base = reinterpret_cast<uint64_t>(info.dli_fbase);
        for (int i = 0; i < header->e_shnum; ++i) {
            if (sections[i].sh_type != SHT_SYMTAB) continue;
            const auto* symbols = reinterpret_cast<const Elf64_Sym*>(bytes + sections[i].sh_offset);
            const char* names = bytes + sections[sections[i].sh_link].sh_offset;
            for (size_t at = 0; at < sections[i].sh_size / sizeof(Elf64_Sym); ++at) {
                if (ELF64_ST_TYPE(symbols[at].st_info) != STT_FUNC) continue;
                const uint64_t begin = base + symbols[at].st_value;
                functions.push_back(
                    {begin, begin + symbols[at].st_size, names + symbols[at].st_name});
            }
        }
        std::sort(functions.begin(), functions.end(), [](const Function& a, const Function& b) {
            return a.begin < b.begin;
        });
    }

    /// The function's name without namespaces, templates and parameters; empty for lambdas and what
    /// is not ours.
    std::string name(const void* address) const {
        const auto at = reinterpret_cast<uint64_t>(address) - 1;
        auto found = std::upper_bound(
            functions.begin(), functions.end(), at, [](uint64_t value, const Function& function) {
                return value < function.begin;
            });
        if (found == functions.begin() || at >= (--found)->end) return "";
        char* text = abi::__cxa_demangle(found->name, nullptr, nullptr, nullptr);
        std::string words = text != nullptr ? text : "";
        std::free(text);
        if (words.find("mori::") == std::string::npos) return "";
        if (words.find("{lambda") != std::string::npos) return "";
        // Up to the parameters; then what stands outside of template arguments.
        std::string bare;
        int depth = 0;
        for (const char c : words) {
            if (c == '<') depth += 1;
            if (depth == 0 && c == '(') break;
            if (depth == 0) bare += c;
            if (c == '>') depth -= 1;
        }
        const size_t space = bare.rfind(' ');
        if (space != std::string::npos) bare = bare.substr(space + 1);
        if (bare.compare(0, 6, "mori::") == 0) bare = bare.substr(6);
        return bare;
    }
};

struct Known {
    std::vector<std::vector<const void*>> stacks;
    std::vector<std::string> words;
};

Known& known() {
    static Known* known = new Known;
    return *known;
}

}  // namespace

uint16_t Places::number(const void* const* stack, int depth) {
    auto& stacks = known().stacks;
    for (size_t at = 0; at < stacks.size(); ++at) {
        if (static_cast<int>(stacks[at].size()) != depth) continue;
        if (std::memcmp(stacks[at].data(), stack, sizeof(void*) * static_cast<size_t>(depth)) ==
            0) {
            return static_cast<uint16_t>(at);
        }
    }
    if (stacks.size() >= UINT16_MAX) return 0;
    stacks.emplace_back(stack, stack + depth);
    return static_cast<uint16_t>(stacks.size() - 1);
}

const char* Places::words(uint16_t place) {
    Known& all = known();
    if (place >= all.stacks.size()) return "?";
    static const Symbols* symbols = new Symbols(reinterpret_cast<const void*>(&Places::words));
    if (all.words.size() <= place) all.words.resize(place + size_t(1));
    std::string& words = all.words[place];
    if (!words.empty()) return words.c_str();
    std::string last;
    for (const void* address : all.stacks[place]) {
        const std::string name = symbols->name(address);
        if (name.empty() || name == last) continue;
        if (!words.empty()) words += " > ";
        words += name;
        last = name;
    }
    if (words.empty()) words = "the runtime";
    return words.c_str();
}

}  // namespace mori::host::races

#pragma clang attribute pop

#endif
