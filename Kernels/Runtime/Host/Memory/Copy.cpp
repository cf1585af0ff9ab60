#include "Runtime/Host/Memory/Copy.h"

#include "Runtime/Host/Checked/Races.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace mori::host {
namespace {

/// Shorter copies are left to memcpy: a streaming copy pays for its partial lines and its fence.
constexpr size_t kLeastStreamedBytes = 1024;

#if defined(__x86_64__)

constexpr size_t kLine = 64;

/// Bytes up to the next cache line of `address`.
size_t bytesToLine(const void* address) {
    return (kLine - reinterpret_cast<uintptr_t>(address) % kLine) % kLine;
}

__attribute__((target("avx2"))) void streamLines(char* to, const char* from, size_t lines) {
    for (size_t line = 0; line < lines; ++line, to += kLine, from += kLine) {
        const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
        const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 32));
        _mm256_stream_si256(reinterpret_cast<__m256i*>(to), low);
        _mm256_stream_si256(reinterpret_cast<__m256i*>(to + 32), high);
    }
}

/// The middle in whole cache lines past the caches, the ends through them.
void streamCopy(char* to, const char* from, size_t bytes) {
    const size_t head = bytesToLine(to);
    std::memcpy(to, from, head);
    const size_t lines = (bytes - head) / kLine;
    streamLines(to + head, from + head, lines);
    const size_t done = head + lines * kLine;
    std::memcpy(to + done, from + done, bytes - done);
}

bool canStream() {
    static const bool has = __builtin_cpu_supports("avx2");
    return has;
}

#else

void streamCopy(char* to, const char* from, size_t bytes) { std::memcpy(to, from, bytes); }
bool canStream() { return false; }

#endif

}  // namespace

void copy(void* destination, const void* source, size_t bytes, bool streaming) {
    if (streaming && bytes >= kLeastStreamedBytes && canStream()) {
        races::noteStreaming(destination, source, bytes);
        streamCopy(static_cast<char*>(destination), static_cast<const char*>(source), bytes);
    } else {
        std::memcpy(destination, source, bytes);
    }
}

void finishStreaming() {
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

size_t lastLevelCacheBytes() {
    static const size_t bytes = [] {
        // What the first processor shares with some others. sysconf may add up what all of the
        // machine's have together: ten times as much on an EPYC, of which a virtual machine has
        // one part.
        size_t largest = 0;
        for (int index = 0; index < 8; ++index) {
            const std::string path =
                "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/size";
            size_t kibibytes = 0;
            if (std::FILE* file = std::fopen(path.c_str(), "re")) {
                if (std::fscanf(file, "%zuK", &kibibytes) != 1) kibibytes = 0;
                std::fclose(file);
            }
            largest = std::max(largest, kibibytes << 10);
        }
        if (largest > 0) return largest;
        const long known = sysconf(_SC_LEVEL3_CACHE_SIZE);
        return known > 0 ? static_cast<size_t>(known) : size_t(32) << 20;
    }();
    return bytes;
}

}  // namespace mori::host
