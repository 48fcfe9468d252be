// Attention over pages: what its files share. attention.cpp says how a sum keeps its order.
#pragma once
#include <cstdint>

#include "vec.h"

namespace baton {

constexpr int kTile = 64;    // Chosen: keys and values of a tile stay in the first cache up to head dim 128.
constexpr int kSpan = 1024;  // Chosen: keys that are summed up on their own; spans of one context may run on many threads.
constexpr int kGroups = kTile / kLanes;
constexpr int64_t kMaxDim = 512;

#if defined(__AVX512F__)
constexpr int kRowTile = 6, kColumnTile = 4;  // 24 sums, 4 keys, 1 or 2 broadcasts: all 32 registers
#elif defined(__AVX2__)
constexpr int kRowTile = 3, kColumnTile = 2;
#else
constexpr int kRowTile = 2, kColumnTile = 2;
#endif

enum class Kind : int64_t { kFp32 = 0, kBf16 = 1, kFp16 = 2, kInt8 = 3, kFp8 = 4 };

// Eight bits with a scale per vector: eight_bits.h.

inline bool is_scaled(Kind kind) { return kind == Kind::kInt8 || kind == Kind::kFp8; }

inline int64_t bytes_of(Kind kind) { return kind == Kind::kFp32 ? 4 : is_scaled(kind) ? 1 : 2; }

// Pages [page][layer][key, value][head][slot][channel]. Of eight-bit pages a head's slots are followed by their fp32 scales.
struct Pages {
    const char* base;
    Kind kind;
    int64_t layers, heads, slots, dim;
    int64_t layer;

    int64_t row_bytes() const { return dim * bytes_of(kind); }
    int64_t head_bytes() const { return slots * (row_bytes() + (is_scaled(kind) ? 4 : 0)); }
    const char* keys_of(int64_t page, int64_t head) const {
        return base + (((page * layers + layer) * 2) * heads + head) * head_bytes();
    }
    int64_t values_after_keys() const { return heads * head_bytes(); }
};

struct Form {
    float scale;
    int64_t window;  // 0: none
    float softcap;   // 0: none

    int64_t first_key(int64_t position) const { return window > 0 && position >= window ? position - window + 1 : 0; }
};

// 2^x for x <= 0, and exactly 1 for 0, exactly 0 for minus infinity. `precise`: 1e-7 relative, else 1e-4.
template <bool precise>
inline Vec power_of_2(Vec x) {
    const Vec bounded = max(fill(-160.0f), x);
    const Vec n = round(bounded);
    const Vec r = bounded - n;
    Vec p;
    if constexpr (precise) {
        p = fma(fill(0.001326472731307149f), r, fill(0.009671512991189957f));
        p = fma(p, r, fill(0.05550733581185341f));
        p = fma(p, r, fill(0.24022242426872253f));
        p = fma(p, r, fill(0.6931470036506653f));
    } else {
        p = fma(fill(0.05500893294811249f), r, fill(0.2422109693288803f));
        p = fma(p, r, fill(0.6932829022407532f));
    }
    return times_power_of_2(fma(p, r, fill(1.0f)), n);
}

// The arithmetic of a product: an element of a row against the same element of 16 keys, or of 16 channels.
struct Fp32 {
    using Element = float;
    using Lanes = Vec;
    static constexpr int kStep = 1;  // channels, or keys, per product
    static constexpr bool kPrecise = true;
    static Lanes lanes(const Element* from) { return load(from); }
    static Lanes same(const Element* from) { return fill(*from); }
    static Vec multiply(Vec sum, Lanes a, Lanes b) { return fma(a, b, sum); }
    static void put(Element* to, Vec a) { store(to, a); }
};

#if defined(__AVX512BF16__)
// Neighbouring elements in pairs: both products are added to the sum.
struct Bf16Pairs {
    using Element = uint16_t;
    using Lanes = __m512bh;
    static constexpr int kStep = 2;
    static constexpr bool kPrecise = false;  // what it computes is rounded to eight bits
    static Lanes lanes(const Element* from) { return (__m512bh)_mm512_loadu_si512(from); }
    static Lanes same(const Element* from) {
        int32_t pair;
        std::memcpy(&pair, from, 4);
        return (__m512bh)_mm512_set1_epi32(pair);
    }
    static Vec multiply(Vec sum, Lanes a, Lanes b) { return {_mm512_dpbf16_ps(sum.v, a, b)}; }
    static void put(Element* to, Vec a) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(a.v));
    }
};
#endif

}  // namespace baton
