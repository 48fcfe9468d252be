// Sixteen floats in whatever registers the instruction set has, with one meaning everywhere: every operation rounds once,
// to nearest even, and nothing is fused but fma().
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace baton {

constexpr int kLanes = 16;

inline uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

inline float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline float from_bf16(uint16_t value) { return float_of(static_cast<uint32_t>(value) << 16); }

inline uint16_t to_bf16(float value) {
    const uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;
    return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

inline float from_fp16(uint16_t value) {
    const uint32_t sign = static_cast<uint32_t>(value & 0x8000) << 16;
    const uint32_t exponent = (value >> 10) & 31, fraction = value & 0x3ff;
    if (exponent == 0) return float_of(sign | bits_of(static_cast<float>(fraction) * 0x1p-24f));
    if (exponent == 31) return float_of(sign | 0x7f800000u | (fraction << 13));
    return float_of(sign | ((exponent + 112) << 23) | (fraction << 13));
}

inline uint16_t to_fp16(float value) {
    const uint32_t bits = bits_of(value), sign = (bits >> 16) & 0x8000, size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00);
    if (size >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00);
    // Below the smallest normal number the sum's own rounding is the one that is wanted.
    if (size < 0x38800000u) return static_cast<uint16_t>(sign | (bits_of(float_of(size) + 0.5f) - bits_of(0.5f)));
    return static_cast<uint16_t>(sign | ((size - 0x38000000u + 0xfff + ((size >> 13) & 1)) >> 13));
}

#if defined(__AVX512F__)

struct Vec {
    __m512 v;
};

inline Vec zero() { return {_mm512_setzero_ps()}; }
inline Vec fill(float value) { return {_mm512_set1_ps(value)}; }
inline Vec load(const float* from) { return {_mm512_loadu_ps(from)}; }
inline void store(float* to, Vec a) { _mm512_storeu_ps(to, a.v); }
inline Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec round(Vec a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline Vec times_power_of_2(Vec a, Vec n) { return {_mm512_scalef_ps(a.v, n.v)}; }
// Two neighbouring bf16 in each 32-bit lane: the first, the second.
inline Vec even_bf16(const uint16_t* from) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(from), 16))};
}
inline Vec odd_bf16(const uint16_t* from) {
    return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(from), _mm512_set1_epi32(0xffff0000)))};
}
inline Vec load_bf16(const uint16_t* from) {
    return {_mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))), 16))};
}
inline void store_bf16(uint16_t* to, Vec a) {
    const __m512i bits = _mm512_castps_si512(a.v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    const __mmask16 is_nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
    const __m512i whole = _mm512_mask_mov_epi32(rounded, is_nan, _mm512_set1_epi32(0x7fc0));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(whole));
}
inline Vec load_fp16(const uint16_t* from) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))};
}
// Two neighbouring fp16 in each 32-bit lane: the first, the second.
inline Vec low_fp16(__m512i words) { return {_mm512_cvtph_ps(_mm512_cvtepi32_epi16(words))}; }
inline Vec even_fp16(const uint16_t* from) { return low_fp16(_mm512_loadu_si512(from)); }
inline Vec odd_fp16(const uint16_t* from) { return low_fp16(_mm512_srli_epi32(_mm512_loadu_si512(from), 16)); }
inline void store_fp16(uint16_t* to, Vec a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}

#elif defined(__AVX2__)

struct Vec {
    __m256 a, b;
};

inline Vec zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Vec fill(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
inline Vec load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
inline void store(float* to, Vec x) {
    _mm256_storeu_ps(to, x.a);
    _mm256_storeu_ps(to + 8, x.b);
}
inline Vec operator+(Vec x, Vec y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline Vec operator-(Vec x, Vec y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline Vec operator*(Vec x, Vec y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline Vec operator/(Vec x, Vec y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline Vec fma(Vec x, Vec y, Vec z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
inline Vec max(Vec x, Vec y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline Vec min(Vec x, Vec y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline Vec round(Vec x) {
    constexpr int kind = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(x.a, kind), _mm256_round_ps(x.b, kind)};
}
inline __m256 times_power_of_2(__m256 x, __m256 n) {
    // In two halves: 2^n itself may be out of range where the product is not.
    const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    const __m256i rest = _mm256_sub_epi32(whole, half), bias = _mm256_set1_epi32(127);
    const __m256 first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    const __m256 second = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(x, first), second);
}
inline Vec times_power_of_2(Vec x, Vec n) { return {times_power_of_2(x.a, n.a), times_power_of_2(x.b, n.b)}; }
inline __m256i load_8(const uint16_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
inline __m128i load_4(const uint16_t* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); }
inline Vec even_bf16(const uint16_t* from) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(load_8(from), 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(load_8(from + 16), 16))};
}
inline Vec odd_bf16(const uint16_t* from) {
    const __m256i upper = _mm256_set1_epi32(0xffff0000);
    return {_mm256_castsi256_ps(_mm256_and_si256(load_8(from), upper)),
            _mm256_castsi256_ps(_mm256_and_si256(load_8(from + 16), upper))};
}
inline Vec load_bf16(const uint16_t* from) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_4(from)), 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_4(from + 8)), 16))};
}
inline __m128i bf16_of(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x), one = _mm256_set1_epi32(1), half = _mm256_set1_epi32(0x7fff);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), one);
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, half)), 16);
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m256i whole = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), is_nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
}
inline void store_bf16(uint16_t* to, Vec x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bf16_of(x.a));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 8), bf16_of(x.b));
}
inline Vec load_fp16(const uint16_t* from) {
    return {_mm256_cvtph_ps(load_4(from)), _mm256_cvtph_ps(load_4(from + 8))};
}
inline __m256 low_fp16(__m256i words) {
    return _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}
inline Vec even_fp16(const uint16_t* from) {
    const __m256i low = _mm256_set1_epi32(0xffff);
    return {low_fp16(_mm256_and_si256(load_8(from), low)), low_fp16(_mm256_and_si256(load_8(from + 16), low))};
}
inline Vec odd_fp16(const uint16_t* from) {
    return {low_fp16(_mm256_srli_epi32(load_8(from), 16)), low_fp16(_mm256_srli_epi32(load_8(from + 16), 16))};
}
inline void store_fp16(uint16_t* to, Vec x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 8), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}

#else

typedef float Floats __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef int32_t Integers __attribute__((vector_size(64)));

struct Vec {
    Floats v;
};

template <class Function>
inline Vec each(Function&& function) {
    Vec result;
    for (int lane = 0; lane < kLanes; ++lane) result.v[lane] = function(lane);
    return result;
}
inline Vec zero() { return {Floats{}}; }
inline Vec fill(float value) { return {Floats{} + value}; }
inline Vec load(const float* from) {
    Vec result;
    std::memcpy(&result.v, from, 64);
    return result;
}
inline void store(float* to, Vec a) { std::memcpy(to, &a.v, 64); }
inline Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
inline Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
inline Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
inline Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
#if defined(__ARM_FEATURE_FMA)
inline Vec fma(Vec a, Vec b, Vec c) {
    return each([&](int lane) { return __builtin_fmaf(a.v[lane], b.v[lane], c.v[lane]); });
}
#else
inline Vec fma(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
#endif
inline Vec max(Vec a, Vec b) { return {a.v > b.v ? a.v : b.v}; }
inline Vec min(Vec a, Vec b) { return {a.v < b.v ? a.v : b.v}; }
// For numbers whose fraction matters: larger ones are whole already.
inline Vec round(Vec a) {
    const Floats magic = Floats{} + 0x1.8p23f;
    return {(a.v + magic) - magic};
}
inline Vec times_power_of_2(Vec a, Vec n) {
    const Integers whole = __builtin_convertvector(n.v, Integers), half = whole >> 1;
    return {a.v * (Floats)((half + 127) << 23) * (Floats)((whole - half + 127) << 23)};
}
inline Words words(const uint16_t* from) {
    Words result;
    std::memcpy(&result, from, 64);
    return result;
}
inline Vec even_bf16(const uint16_t* from) { return {(Floats)(words(from) << 16)}; }
inline Vec odd_bf16(const uint16_t* from) { return {(Floats)(words(from) & 0xffff0000u)}; }
inline Vec load_bf16(const uint16_t* from) {
    return each([&](int lane) { return from_bf16(from[lane]); });
}
inline void store_bf16(uint16_t* to, Vec a) {
    for (int lane = 0; lane < kLanes; ++lane) to[lane] = to_bf16(a.v[lane]);
}
inline Vec load_fp16(const uint16_t* from) {
    return each([&](int lane) { return from_fp16(from[lane]); });
}
inline Vec even_fp16(const uint16_t* from) {
    return each([&](int lane) { return from_fp16(from[2 * lane]); });
}
inline Vec odd_fp16(const uint16_t* from) {
    return each([&](int lane) { return from_fp16(from[2 * lane + 1]); });
}
inline void store_fp16(uint16_t* to, Vec a) {
    for (int lane = 0; lane < kLanes; ++lane) to[lane] = to_fp16(a.v[lane]);
}

#endif

// e^x to about one unit in the last place, of x brought into -87.33 .. 88.37: never 0, never infinite. NaN stays NaN.
inline Vec exp(Vec x) {
    const Vec bounded = min(fill(88.37f), max(fill(-87.33f), x));
    const Vec n = round(bounded * fill(1.44269504088896341f));
    const Vec r = fma(n, fill(2.12194440e-4f), fma(n, fill(-0.693359375f), bounded));
    Vec p = fma(fill(1.9875691500e-4f), r, fill(1.3981999507e-3f));
    p = fma(p, r, fill(8.3334519073e-3f));
    p = fma(p, r, fill(4.1665795894e-2f));
    p = fma(p, r, fill(1.6666665459e-1f));
    p = fma(p, r, fill(5.0000001201e-1f));
    return times_power_of_2(fma(p, r * r, r + fill(1.0f)), n);
}

}  // namespace baton
