// What is moved, and what must come of it: the values of Tests/MoriOracle, computed here again.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace peers {

struct Case {
    int ranks = 0;
    int tokens = 0;
    int hidden = 0;
    int topK = 0;
    int expertsPerRank = 0;
    bool isFP8 = false;
    std::uint64_t seed = 0;
    /// [ranks][tokens * topK] expert ids.
    std::vector<std::int32_t> experts;

    const std::int32_t* expertRow(int rank, int token) const {
        return experts.data() + (static_cast<std::size_t>(rank) * tokens + token) * topK;
    }
};

/// Reads a JSON file of nothing but nested arrays of integers.
inline std::vector<std::int32_t> readIntegers(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        throw std::runtime_error("cannot read " + path);
    }
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    std::vector<std::int32_t> values;
    const char* at = text.c_str();
    while (*at != '\0') {
        if (*at == '-' || (*at >= '0' && *at <= '9')) {
            char* end = nullptr;
            values.push_back(static_cast<std::int32_t>(std::strtol(at, &end, 10)));
            at = end;
        } else {
            ++at;
        }
    }
    return values;
}

// -------------------------------------------------------------------------------------------------
// Numbers that depend on their place alone.

inline std::uint64_t mix(std::uint64_t x) {
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
    x = (x ^ x >> 27) * 0x94D049BB133111EB;
    return x ^ x >> 31;
}

inline std::uint64_t placeBits(std::uint64_t seed, int a, int b, int c, int d = 0) {
    std::uint64_t x = seed + 0x9E3779B97F4A7C15;
    for (const int coordinate : {a, b, c, d}) {
        x = mix(x ^ static_cast<std::uint64_t>(coordinate) * 0xD6E8FEB86659FD93);
    }
    return x;
}

inline float tokenElement(std::uint64_t base, int column) {
    std::uint32_t x =
        static_cast<std::uint32_t>(base) + static_cast<std::uint32_t>(column) * 0x9E3779B1U;
    x = (x ^ x >> 15) * 0x85EBCA77U;
    x ^= x >> 13 ^ static_cast<std::uint32_t>(base >> 32);
    return static_cast<float>(static_cast<std::int32_t>(x >> 16) - 32768) * 0x1p-14F;
}

inline float tokenWeight(const Case& c, int rank, int token, int slot) {
    return static_cast<float>(placeBits(c.seed, 2, rank, token, slot) >> 40) * 0x1p-24F;
}

/// What the experts of one rank together make of a token: the factor on each element.
inline float rankFactor(const Case& c,
                        int rank,
                        const std::int32_t* experts,
                        const float* weights) {
    float sum = 0;
    for (int slot = 0; slot < c.topK; ++slot) {
        const int expert = experts[slot];
        if (expert / c.expertsPerRank != rank) {
            continue;
        }
        const float magnitude = 0.375F + 0.25F * static_cast<float>(expert % 11);
        sum += weights[slot] * (expert % 2 == 0 ? magnitude : -magnitude);
    }
    return sum * (1 + 0.0625F * static_cast<float>(rank % 16)) + 0.5F;
}

// -------------------------------------------------------------------------------------------------
// Element types

inline float widen(std::uint16_t bf16) {
    const std::uint32_t bits = static_cast<std::uint32_t>(bf16) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

/// To the nearest, the even one on ties; the values here are finite.
inline std::uint16_t toBF16(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

/// The values of E4M3 by their bits, and rounding to the nearest of them, the even one on ties.
class E4M3 {
public:
    E4M3() {
        for (int bits = 0; bits < 256; ++bits) {
            const int exponent = bits >> 3 & 0xF;
            const float fraction = static_cast<float>(bits & 7) / 8;
            const float magnitude =
                exponent == 0 ? fraction * 0x1p-6F
                              : (1 + fraction) * static_cast<float>(1 << exponent) * 0x1p-7F;
            values_[bits] = bits & 0x80 ? -magnitude : magnitude;
        }
        // Token elements are multiples of 2^-14 from -2 to 2, so a table has them all.
        codes_.resize(65536);
        int code = 0;
        for (int step = 0; step <= 32768; ++step) {
            const float value = static_cast<float>(step) * 0x1p-14F;
            while (code < 0x7E) {
                const float middle = (values_[code] + values_[code + 1]) / 2;
                if (value < middle || (value == middle && code % 2 == 0)) {
                    break;
                }
                ++code;
            }
            codes_[32768 - step] = static_cast<std::uint8_t>(code | 0x80);
            if (step < 32768) {
                codes_[32768 + step] = static_cast<std::uint8_t>(code);
            }
        }
        codes_[32768] = 0;
    }
    float value(std::uint8_t bits) const { return values_[bits]; }
    std::uint8_t nearest(float tokenElement) const {
        return codes_[static_cast<int>(tokenElement * 0x1p14F) + 32768];
    }

private:
    float values_[256];
    std::vector<std::uint8_t> codes_;
};

}  // namespace peers
