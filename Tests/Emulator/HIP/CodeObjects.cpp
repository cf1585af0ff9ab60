#include "HIP/CodeObjects.h"

#include <dlfcn.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

namespace standin {
namespace {

constexpr char kBundleMagic[] = "__CLANG_OFFLOAD_BUNDLE__";
constexpr size_t kMagicBytes = sizeof kBundleMagic - 1;

/// Where the translation of a library or code object lies.
std::string translationOf(const std::string& path) {
    return path.substr(0, path.rfind('.')) + ".translation.so";
}

/// The file that this code is in.
std::string ownPath() {
    Dl_info info{};
    return dladdr(reinterpret_cast<void*>(&ownPath), &info) == 0 ? "" : info.dli_fname;
}

}  // namespace

const char* codeObjectFor(const char* bundle, const std::string& gpu, uint64_t* bytes) {
    if (std::memcmp(bundle, kBundleMagic, kMagicBytes) != 0) return nullptr;
    uint64_t count = 0;
    const char* at = bundle + kMagicBytes;
    std::memcpy(&count, at, 8);
    at += 8;
    for (uint64_t i = 0; i < count; ++i) {
        uint64_t fields[3];
        std::memcpy(fields, at, sizeof fields);
        const std::string name(at + sizeof fields, fields[2]);
        at += sizeof fields + fields[2];
        if (fields[1] == 0 || name.compare(0, 3, "hip") != 0) continue;
        // "hipv4-amdgcn-amd-amdhsa--gfx942", perhaps with ":feature+" behind.
        const size_t begin = name.rfind("--");
        if (begin == std::string::npos || name.substr(begin + 2) != gpu) continue;
        *bytes = fields[1];
        return bundle + fields[0];
    }
    return nullptr;
}

emulator_translation_function openTranslation(const std::string& path, std::string* error) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        *error = std::string(dlerror()) + "; `make emulator` with TINYGRAD set writes it";
        return nullptr;
    }
    const auto table = reinterpret_cast<emulator_translation_function>(
        dlsym(library, "emulator_translation_table"));
    if (table == nullptr || table(0)->version != EMULATOR_TRANSLATION_VERSION) {
        *error = path + " is of another version of the emulator; `make emulator` renews it";
        return nullptr;
    }
    return table;
}

emulator_translation_function ownTranslation(std::string* error) {
    return openTranslation(translationOf(ownPath()), error);
}

std::unique_ptr<emulator::Program> openCodeObject(const std::string& path, std::string* error) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file),
                                  std::istreambuf_iterator<char>()};
    if (bytes.empty()) {
        *error = path + " cannot be read";
        return nullptr;
    }
    const emulator_translation_function translation = openTranslation(translationOf(path), error);
    if (translation == nullptr) return nullptr;
    return emulator::Program::load(bytes.data(), bytes.size(), translation, error);
}

}  // namespace standin
