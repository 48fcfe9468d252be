// Floats of eight bits as pages hold them (e4m3: sign, four bits of exponent, three of fraction), without infinities.
// kernels/quantized_pages.py has them from torch, bit for bit.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace baton {

constexpr float kSmallestSubnormal = 1.0f / 512.0f;  // also the step of all below 2^-6

struct E4m3Values {
    float of[256];
    constexpr E4m3Values() : of() {
        for (int bits = 0; bits < 128; ++bits) {
            const int exponent = bits >> 3, fraction = bits & 7;
            float value = (exponent == 0 ? fraction : fraction + 8) * kSmallestSubnormal;
            for (int doubled = 1; doubled < exponent; ++doubled) value *= 2.0f;
            of[bits] = value;
            of[bits + 128] = -value;
        }
    }
};

inline constexpr E4m3Values kE4m3;

inline float from_e4m3(uint8_t bits) { return kE4m3.of[bits]; }

// The nearest, ties to even, of |value| <= 448 and a rounding of fp32 more.
inline uint8_t to_e4m3(float value) {
    const float size = std::fabs(value);
    uint32_t bits;
    if (size < 1.0f / 64.0f) {
        bits = static_cast<uint32_t>(std::nearbyintf(size / kSmallestSubnormal));
    } else {
        std::memcpy(&bits, &size, 4);
        bits = (bits - (120u << 23) + 0x7FFFFu + (bits >> 20 & 1u)) >> 20;
    }
    return static_cast<uint8_t>(bits | (std::signbit(value) ? 128u : 0u));
}

}  // namespace baton
