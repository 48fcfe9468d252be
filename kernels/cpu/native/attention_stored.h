// Keys and values as pages hold them, on their way into products: what a 32-bit word of a row has, and in which order
// channels of values are summed up.
//
// `Math` is the arithmetic of the copies (attention.h), whose sums must come out bit for bit. Sums of 64 channels are four
// vectors; `settle` brings a row of them back into the order of its channels.
#pragma once
#include "attention_tile.h"

namespace baton {

#if defined(__AVX512F__)

constexpr int kValueChannels = 64;  // that are summed up at once
constexpr int kValueVectors = kValueChannels / kLanes;

// Each channel widened to fp32, one after the other.
template <int bytes, class Wide>
struct Widened {
    using Math = Fp32;
    static constexpr int kBytes = bytes;

    // Sums of 16 keys gain the channels of their next 64 bytes. Not inlined, and a loop: unrolled for every type and number of rows it took a compiler most of a minute.
    template <int rows>
    __attribute__((noinline)) static void add_keys(__m512 (&sums)[rows], const float* queries, int64_t dim,
                                                   const char* keys) {
        alignas(64) __m512i words[kLanes];
        {
            __m512i turned[kLanes];
#pragma GCC unroll 16
            for (int k = 0; k < kLanes; ++k) turned[k] = _mm512_loadu_si512(keys + k * dim * bytes);
            turn(turned);
#pragma GCC unroll 16
            for (int word = 0; word < kLanes; ++word) words[word] = turned[word];
        }
#pragma GCC unroll 1
        for (int word = 0; word < kLanes; ++word, queries += 4 / bytes)
#pragma GCC unroll 4
            for (int part = 0; part < 4 / bytes; ++part) {
                const __m512 lanes = Wide::of_word(words[word], part);
#pragma GCC unroll 6
                for (int r = 0; r < rows; ++r)
                    sums[r] = _mm512_fmadd_ps(_mm512_set1_ps(queries[r * dim + part]), lanes, sums[r]);
            }
    }
    // Two keys, the second of which may be missing. `weights` are theirs, kTile apart from row to row.
    template <int rows>
    static inline void add_values(__m512 (&sums)[rows][kValueVectors], const float* weights, const char* even,
                                  const char* odd) {
        add_key<rows>(sums, weights, even);
        if (odd != nullptr) add_key<rows>(sums, weights + 1, odd);
    }
    static inline void settle(float*, int64_t) {}

private:
    template <int rows>
    static inline void add_key(__m512 (&sums)[rows][kValueVectors], const float* weights, const char* values) {
        __m512 lanes[kValueVectors];
#pragma GCC unroll 4
        for (int c = 0; c < kValueVectors; ++c) lanes[c] = Wide::of_row(values + c * kLanes * bytes);
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) {
            const __m512 same = _mm512_set1_ps(weights[r * kTile]);
#pragma GCC unroll 4
            for (int c = 0; c < kValueVectors; ++c) sums[r][c] = _mm512_fmadd_ps(same, lanes[c], sums[r][c]);
        }
    }
};

struct WideFp32 {
    static __m512 of_word(__m512i word, int) { return _mm512_castsi512_ps(word); }
    static __m512 of_row(const char* from) { return _mm512_loadu_ps(from); }
};
struct WideBf16 {
    static __m512 of_word(__m512i word, int part) {
        return _mm512_castsi512_ps(part == 0 ? _mm512_slli_epi32(word, 16)
                                             : _mm512_and_si512(word, _mm512_set1_epi32(0xffff0000)));
    }
    static __m512 of_row(const char* from) { return load_bf16(reinterpret_cast<const uint16_t*>(from)).v; }
};
struct WideFp16 {
    static __m512 of_word(__m512i word, int part) { return low_fp16(_mm512_srli_epi32(word, 16 * part)).v; }
    static __m512 of_row(const char* from) { return load_fp16(reinterpret_cast<const uint16_t*>(from)).v; }
};

struct WideInt8 {
    static __m512 of_word(__m512i word, int part) {
        return from_int8(_mm512_srai_epi32(_mm512_slli_epi32(word, 24 - 8 * part), 24)).v;
    }
    static __m512 of_row(const char* from) { return load_int8(reinterpret_cast<const int8_t*>(from)).v; }
};
struct WideE4m3 {
    static __m512 of_word(__m512i word, int part) { return from_e4m3(_mm512_srli_epi32(word, 8 * part)).v; }
    static __m512 of_row(const char* from) { return load_e4m3(reinterpret_cast<const uint8_t*>(from)).v; }
};

#if defined(__AVX512BF16__)
// Pairs of bf16, multiplied in hardware. Values of two keys are interleaved 4 channels at a time.
struct HardwarePairs {
    using Math = Bf16Pairs;
    static constexpr int kBytes = 2;

    template <int rows>
    static inline void add_keys(__m512 (&sums)[rows], const uint16_t* queries, int64_t dim, const char* keys) {
        __m512i pairs[kLanes];
#pragma GCC unroll 16
        for (int k = 0; k < kLanes; ++k) pairs[k] = _mm512_loadu_si512(keys + k * dim * 2);
        turn(pairs);
#pragma GCC unroll 16
        for (int p = 0; p < kLanes; ++p)
#pragma GCC unroll 6
            for (int r = 0; r < rows; ++r)
                sums[r] = _mm512_dpbf16_ps(sums[r], Bf16Pairs::same(queries + r * dim + 2 * p), (__m512bh)pairs[p]);
    }
    template <int rows>
    static inline void add_values(__m512 (&sums)[rows][kValueVectors], const uint16_t* weights, const char* even,
                                  const char* odd) {
        __m512bh values[kValueVectors];
#pragma GCC unroll 2
        for (int half = 0; half < kValueVectors / 2; ++half) {
            const __m512i a = _mm512_loadu_si512(even + half * 64);
            const __m512i b = odd ? _mm512_loadu_si512(odd + half * 64) : _mm512_setzero_si512();
            values[2 * half] = (__m512bh)_mm512_unpacklo_epi16(a, b);
            values[2 * half + 1] = (__m512bh)_mm512_unpackhi_epi16(a, b);
        }
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) {
            const __m512bh same = Bf16Pairs::same(weights + r * kTile);
#pragma GCC unroll 4
            for (int c = 0; c < kValueVectors; ++c) sums[r][c] = _mm512_dpbf16_ps(sums[r][c], same, values[c]);
        }
    }
    static inline void settle(float* sums, int64_t count) {
        const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
        const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
        for (float* at = sums; at < sums + count; at += 2 * kLanes) {
            const __m512 low = _mm512_loadu_ps(at), high = _mm512_loadu_ps(at + kLanes);
            _mm512_storeu_ps(at, _mm512_permutex2var_ps(low, first, high));
            _mm512_storeu_ps(at + kLanes, _mm512_permutex2var_ps(low, second, high));
        }
    }
};
#endif

#endif

}  // namespace baton
