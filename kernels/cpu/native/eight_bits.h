// Floats of eight bits as pages hold them (e4m3: sign, four bits of exponent, three of fraction), without infinities.
// kernels/quantized_pages.py has them from torch, bit for bit.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "vec.h"

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

#if defined(__AVX512F__)
inline Vec from_int8(__m512i lanes) { return {_mm512_cvtepi32_ps(lanes)}; }
// One e4m3 in the lowest byte of each lane, whatever the others hold: a normal one has its exponent moved, a subnormal one
// counts steps.
inline Vec from_e4m3(__m512i lanes) {
    const __m512i sign = _mm512_slli_epi32(_mm512_and_si512(lanes, _mm512_set1_epi32(0x80)), 24);
    const __m512i size = _mm512_and_si512(lanes, _mm512_set1_epi32(0x7f));
    const __m512i normal = _mm512_add_epi32(_mm512_slli_epi32(size, 20), _mm512_set1_epi32(120 << 23));
    const __m512 steps = _mm512_mul_ps(_mm512_cvtepi32_ps(size), _mm512_set1_ps(kSmallestSubnormal));
    const __mmask16 is_subnormal = _mm512_cmplt_epi32_mask(size, _mm512_set1_epi32(8));
    const __m512i value = _mm512_mask_mov_epi32(normal, is_subnormal, _mm512_castps_si512(steps));
    return {_mm512_castsi512_ps(_mm512_or_si512(value, sign))};
}
inline __m512i load_bytes(const void* from) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(from))); }
inline Vec load_int8(const int8_t* from) { return from_int8(load_bytes(from)); }
inline Vec load_e4m3(const uint8_t* from) { return from_e4m3(load_bytes(from)); }
#else
inline Vec load_int8(const int8_t* from) {
    alignas(64) float lanes[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = from[lane];
    return load(lanes);
}
inline Vec load_e4m3(const uint8_t* from) {
    alignas(64) float lanes[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = from_e4m3(from[lane]);
    return load(lanes);
}
#endif

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
