#include <elf.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "Machine/Machine.h"

namespace emulator {
namespace {

uint64_t hashOf(const uint8_t* bytes, size_t count) {
    uint64_t hash = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < count; ++i) hash = (hash ^ bytes[i]) * 0x100000001b3ull;
    return hash;
}

constexpr uint32_t kRelativeRelocation = 13;  // R_AMDGPU_RELATIVE64

}  // namespace

std::unique_ptr<Program> Program::load(const void* codeObject,
                                       size_t bytes,
                                       emulator_translation_function translations,
                                       std::string* error) {
    const uint8_t* file = static_cast<const uint8_t*>(codeObject);
    Elf64_Ehdr header;
    if (bytes < sizeof header || std::memcmp(file, ELFMAG, SELFMAG) != 0) {
        *error = "this is no code object";
        return nullptr;
    }
    const uint64_t hash = hashOf(file, bytes);
    const emulator_translation* translation = nullptr;
    for (uint32_t number = 0; (translation = translations(number)) != nullptr; ++number) {
        if (translation->code_object_hash == hash) break;
    }
    if (translation == nullptr) {
        *error = "the translation is of another build of the kernels; make emulator renews it";
        return nullptr;
    }
    std::memcpy(&header, file, sizeof header);
    const auto* segments = reinterpret_cast<const Elf64_Phdr*>(file + header.e_phoff);
    std::unique_ptr<Program> program(new Program);
    program->translation_ = translation;
    void* image = mmap(nullptr,
                       translation->image_bytes,
                       PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS,
                       -1,
                       0);
    if (image == MAP_FAILED) {
        *error = "no memory for the code object";
        return nullptr;
    }
    program->image_ = static_cast<uint8_t*>(image);
    for (int i = 0; i < header.e_phnum; ++i) {
        if (segments[i].p_type != PT_LOAD) continue;
        std::memcpy(program->image_ + segments[i].p_vaddr,
                    file + segments[i].p_offset,
                    segments[i].p_filesz);
    }
    const auto* sections = reinterpret_cast<const Elf64_Shdr*>(file + header.e_shoff);
    for (int i = 0; i < header.e_shnum; ++i) {
        if (sections[i].sh_type != SHT_RELA) continue;
        const auto* entries = reinterpret_cast<const Elf64_Rela*>(file + sections[i].sh_offset);
        for (uint64_t at = 0; at < sections[i].sh_size / sizeof(Elf64_Rela); ++at) {
            if (ELF64_R_TYPE(entries[at].r_info) != kRelativeRelocation) {
                *error = "a relocation that kernels without globals do not have";
                return nullptr;
            }
            const uint64_t value = program->base() + static_cast<uint64_t>(entries[at].r_addend);
            std::memcpy(program->image_ + entries[at].r_offset, &value, sizeof value);
        }
    }
    return program;
}

Program::~Program() {
    if (image_ != nullptr) munmap(image_, translation_->image_bytes);
}

const emulator_kernel* Program::kernel(const char* name) const {
    const emulator_kernel* begin = translation_->kernels;
    const emulator_kernel* end = begin + translation_->kernel_count;
    const emulator_kernel* found = std::find_if(
        begin, end, [&](const emulator_kernel& k) { return std::strcmp(k.name, name) == 0; });
    return found == end ? nullptr : found;
}

}  // namespace emulator
