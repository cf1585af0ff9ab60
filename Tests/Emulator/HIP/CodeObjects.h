// Code objects and their translations, as files and as parts of the library.
#pragma once

#include <memory>
#include <string>

#include "Machine/Machine.h"

namespace standin {

/// The code object for a GPU in a fat binary; null: there is none.
const char* codeObjectFor(const char* bundle, const std::string& gpu, uint64_t* bytes);

/// The translations in a shared object; null: there is none, and why.
emulator_translation_function openTranslation(const std::string& path, std::string* error);

/// The same for this library's own kernels.
emulator_translation_function ownTranslation(std::string* error);

/// A bare code object in a file, with the translation that lies beside it.
std::unique_ptr<emulator::Program> openCodeObject(const std::string& path, std::string* error);

}  // namespace standin
