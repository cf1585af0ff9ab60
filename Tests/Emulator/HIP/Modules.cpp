// Kernels: their code objects, how many fit, and their launches, which the emulator runs.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>

#include "HIP/CodeObjects.h"
#include "HIP/Launches.h"
#include "HIP/Standin.h"

namespace {

/// What the compiler registers for each source with kernels.
struct FatBinary {
    uint32_t magic, version;
    const char* bundle;
    void* unused;
};

struct Module {
    const char* bundle;
    std::unique_ptr<emulator::Program> program;  ///< null: not loaded yet
};

struct Function {
    Module* module;
    std::string name;
};

struct State {
    std::mutex mutex;
    std::map<const void*, Function> functions;
    std::map<std::string, standin_launch_counts> launches;
    std::string lastError;
    emulator_translation_function translation = nullptr;
    /// Code objects of files, never forgotten: launches may be under way.
    std::map<std::string, std::unique_ptr<emulator::Program>> files;
    const emulator::Program* inPlace = nullptr;  ///< of the library's own kernels; null: none
    std::string prefix;      ///< of kernels that take other registers than they do; "": none
    uint32_t registers = 0;  ///< which are so many
};

State& state() {
    static State* shared = new State;  // outlives static destruction
    return *shared;
}

/// The kernel of a host function, found in its module for the device's architecture.
hipError_t find(State& known, const void* host, Function** out) {
    const auto found = known.functions.find(host);
    if (found == known.functions.end()) return hipErrorInvalidDeviceFunction;
    *out = &found->second;
    Module& module = *found->second.module;
    const std::string all = standin::architecture();
    const std::string gpu = all.substr(0, all.find(':'));
    uint64_t bytes = 0;
    return standin::codeObjectFor(module.bundle, gpu, &bytes) == nullptr ? hipErrorNoBinaryForGpu
                                                                         : hipSuccess;
}

/// Loads a module for the emulator, if it was not.
bool load(State& known, Module& module) {
    if (module.program != nullptr) return true;
    if (known.translation == nullptr) known.translation = standin::ownTranslation(&known.lastError);
    if (known.translation == nullptr) return false;
    uint64_t bytes = 0;
    const char* object = standin::codeObjectFor(module.bundle, "gfx942", &bytes);
    if (object == nullptr) {
        known.lastError = "the library has no code for gfx942";
        return false;
    }
    module.program = emulator::Program::load(object, bytes, known.translation, &known.lastError);
    return module.program != nullptr;
}

/// The same, ready to run.
hipError_t findRunnable(State& known,
                        const void* host,
                        const emulator::Program** program,
                        const emulator_kernel** kernel) {
    Function* function = nullptr;
    const hipError_t error = find(known, host, &function);
    if (error != hipSuccess) return error;
    *program = known.inPlace;
    if (*program == nullptr) {
        Module& module = *function->module;
        if (!load(known, module)) return hipErrorSharedObjectInitFailed;
        *program = module.program.get();
    }
    *kernel = (*program)->kernel(function->name.c_str());
    return *kernel == nullptr ? hipErrorInvalidDeviceFunction : hipSuccess;
}

/// Whether a kernel is the one that the stand-in runs itself where none can be executed: the
/// clock's, so that what is built on it is tested there too.
bool tellsTime(State& known, const void* host) {
    Function* function = nullptr;
    if (find(known, host, &function) != hipSuccess) return false;
    return function->name == "moriep_read_clock" && !load(known, *function->module);
}

hipError_t enqueueTime(void** arguments, hipStream_t stream) {
    uint64_t* const word = *static_cast<uint64_t**>(arguments[0]);
    const auto launch = [word] {
        emulator::Machine& machine = emulator::Machine::shared();
        const uint64_t time = machine.ticks(machine.instructions()) * 10;
        __atomic_store_n(word, time, __ATOMIC_RELEASE);
        return hipSuccess;
    };
    return standin::remember(standin::enqueue(stream, launch));
}

/// The kernels of a code object's file; null: they cannot be loaded.
const emulator::Program* programOf(State& known, const char* path) {
    std::unique_ptr<emulator::Program>& program = known.files[path];
    if (program == nullptr) program = standin::openCodeObject(path, &known.lastError);
    return program.get();
}

void note(const char* kernel, const emulator::Outcome& outcome) {
    State& known = state();
    std::lock_guard lock(known.mutex);
    standin_launch_counts& counts = known.launches[kernel];
    counts.launches += 1;
    counts.waves += outcome.waves;
    counts.instructions += outcome.instructions;
    counts.most_of_one_wave = std::max(counts.most_of_one_wave, outcome.mostOfOneWave);
    if (outcome.error.empty()) return;
    known.lastError = outcome.error;
    std::fprintf(stderr, "emulator: %s\n", outcome.error.c_str());
}

}  // namespace

namespace standin {

void forgetLaunches() {
    State& known = state();
    std::lock_guard lock(known.mutex);
    known.launches.clear();
    known.lastError.clear();
}

void launched(const char* kernel, standin_launch_counts* out) {
    State& known = state();
    std::lock_guard lock(known.mutex);
    *out = {};
    for (const auto& [name, counts] : known.launches) {
        if (kernel != nullptr && name != kernel) continue;
        out->launches += counts.launches;
        out->waves += counts.waves;
        out->instructions += counts.instructions;
        out->most_of_one_wave = std::max(out->most_of_one_wave, counts.most_of_one_wave);
    }
}

const char* lastLaunchError() {
    thread_local std::string copy;
    State& known = state();
    std::lock_guard lock(known.mutex);
    copy = known.lastError;
    return copy.c_str();
}

const char* obstacle() {
    State& known = state();
    {
        std::lock_guard lock(known.mutex);
        bool canExecute = !known.functions.empty();
        for (auto& [host, function] : known.functions) {
            canExecute = canExecute && load(known, *function.module);
        }
        if (canExecute) return "";
        if (known.functions.empty()) known.lastError = "the library has no kernels";
    }
    return lastLaunchError();
}

void setRegisters(const char* prefix, uint32_t registers) {
    State& known = state();
    std::lock_guard lock(known.mutex);
    known.prefix = prefix == nullptr ? "" : prefix;
    known.registers = registers;
}

int32_t useKernels(const char* codeObject) {
    State& known = state();
    std::lock_guard lock(known.mutex);
    known.inPlace = codeObject == nullptr ? nullptr : programOf(known, codeObject);
    return codeObject == nullptr || known.inPlace != nullptr ? 1 : 0;
}

int32_t run(const char* codeObject,
            const char* kernel,
            uint32_t blocks,
            uint32_t threads,
            uint32_t ldsBytes,
            const void* arguments,
            standin_launch_counts* out) {
    const emulator::Program* program = nullptr;
    const emulator_kernel* found = nullptr;
    {
        State& known = state();
        std::lock_guard lock(known.mutex);
        program = programOf(known, codeObject);
        if (program == nullptr) return 1;
        found = program->kernel(kernel);
        if (found == nullptr) {
            known.lastError = std::string(codeObject) + " has no kernel " + kernel;
            return 1;
        }
    }
    const emulator::Outcome outcome = emulator::Machine::shared().run(
        {program, found, {blocks, 1, 1}, {threads, 1, 1}, ldsBytes, &arguments});
    note(kernel, outcome);
    *out = {1, outcome.waves, outcome.instructions, outcome.mostOfOneWave};
    return outcome.error.empty() ? 0 : 1;
}

}  // namespace standin

extern "C" {

// What the compiler's own code calls when the library is loaded.
void** __hipRegisterFatBinary(const void* data) {
    const auto* binary = static_cast<const FatBinary*>(data);
    Module* module = new Module;
    module->bundle = binary->bundle;
    return reinterpret_cast<void**>(module);
}

void __hipRegisterFunction(void** module,
                           const void* host,
                           char*,
                           const char* name,
                           unsigned,
                           void*,
                           void*,
                           void*,
                           void*,
                           int*) {
    State& known = state();
    std::lock_guard lock(known.mutex);
    known.functions[host] = {reinterpret_cast<Module*>(module), name};
}

// Libraries of kernels are never unloaded.
void __hipUnregisterFatBinary(void**) {}

// Stubs of kernels that are called like functions use these; the kernels here are not.
hipError_t __hipPushCallConfiguration(dim3, dim3, size_t, hipStream_t) {
    return hipErrorNotSupported;
}
hipError_t __hipPopCallConfiguration(dim3*, dim3*, size_t*, hipStream_t*) {
    return hipErrorNotSupported;
}

hipError_t hipFuncGetAttributes(hipFuncAttributes* attributes, const void* host) {
    STANDIN_ENTER(hipFuncGetAttributes);
    State& known = state();
    std::lock_guard lock(known.mutex);
    Function* function = nullptr;
    const hipError_t error = find(known, host, &function);
    if (error != hipSuccess) return standin::remember(error);
    *attributes = hipFuncAttributes{};
    attributes->maxThreadsPerBlock = 1024;
    return hipSuccess;
}

hipError_t hipOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks,
                                                        const void* host,
                                                        int threads,
                                                        size_t dynamicLDS) {
    STANDIN_ENTER(hipOccupancyMaxActiveBlocksPerMultiprocessor);
    State& known = state();
    std::lock_guard lock(known.mutex);
    Function* function = nullptr;
    const hipError_t error = find(known, host, &function);
    if (error != hipSuccess) return standin::remember(error);
    // Of a compute unit: 4 SIMDs, 512 vector registers a lane in each, at most 8 waves on each.
    uint32_t registers = 128;
    if (known.translation != nullptr && function->module->program != nullptr) {
        const emulator_kernel* kernel = function->module->program->kernel(function->name.c_str());
        if (kernel != nullptr) registers = std::max(kernel->vector_registers, 1u);
    }
    const std::string& prefix = known.prefix;
    if (!prefix.empty() && function->name.compare(0, prefix.size(), prefix) == 0) {
        registers = known.registers;
    }
    const uint32_t wavesOfSIMD = std::min(8u, 512 / ((registers + 7) / 8 * 8));
    const int waves = (threads + 63) / 64;
    int fit = static_cast<int>(4 * wavesOfSIMD) / waves;
    if (dynamicLDS > 0) fit = std::min(fit, static_cast<int>(65536 / dynamicLDS));
    *blocks = fit;
    return hipSuccess;
}

hipError_t hipLaunchKernel(const void* host,
                           dim3 blocks,
                           dim3 threads,
                           void** arguments,
                           size_t dynamicLDS,
                           hipStream_t stream) {
    STANDIN_ENTER(hipLaunchKernel);
    const emulator::Program* program = nullptr;
    const emulator_kernel* kernel = nullptr;
    {
        State& known = state();
        std::lock_guard lock(known.mutex);
        if (tellsTime(known, host)) return enqueueTime(arguments, stream);
        const hipError_t error = findRunnable(known, host, &program, &kernel);
        if (error != hipSuccess) return standin::remember(error);
    }
    // The caller's arguments are copied before this returns.
    std::vector<std::vector<uint8_t>> copies;
    for (uint32_t i = 0; i < kernel->argument_count; ++i) {
        if (kernel->arguments[i].kind != 'e') continue;
        const auto* begin = static_cast<const uint8_t*>(arguments[copies.size()]);
        copies.emplace_back(begin, begin + kernel->arguments[i].bytes);
    }
    const auto launch = [=, copies = std::move(copies)] {
        std::vector<const void*> pointers;
        for (const std::vector<uint8_t>& copy : copies) pointers.push_back(copy.data());
        const emulator::Outcome outcome =
            emulator::Machine::shared().run({program,
                                             kernel,
                                             {blocks.x, blocks.y, blocks.z},
                                             {threads.x, threads.y, threads.z},
                                             static_cast<uint32_t>(dynamicLDS),
                                             pointers.data()});
        note(kernel->name, outcome);
        return outcome.error.empty() ? hipSuccess : hipErrorLaunchFailure;
    };
    return standin::remember(standin::enqueue(stream, launch));
}

}  // extern "C"
