// Sixteen rows of 32-bit words, turned into columns in registers.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace baton {

#if defined(__AVX512F__)
// a[row] lane column to a[column] lane row.
inline void turn(__m512i (&a)[16]) {
    __m512i b[16];
#pragma GCC unroll 8
    for (int r = 0; r < 16; r += 2) {
        b[r] = _mm512_unpacklo_epi32(a[r], a[r + 1]);
        b[r + 1] = _mm512_unpackhi_epi32(a[r], a[r + 1]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < 16; r += 4) {
        a[r] = _mm512_unpacklo_epi64(b[r], b[r + 2]);
        a[r + 1] = _mm512_unpackhi_epi64(b[r], b[r + 2]);
        a[r + 2] = _mm512_unpacklo_epi64(b[r + 1], b[r + 3]);
        a[r + 3] = _mm512_unpackhi_epi64(b[r + 1], b[r + 3]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
        b[r] = _mm512_shuffle_i32x4(a[r], a[r + 4], 0x88);
        b[r + 4] = _mm512_shuffle_i32x4(a[r], a[r + 4], 0xdd);
        b[r + 8] = _mm512_shuffle_i32x4(a[r + 8], a[r + 12], 0x88);
        b[r + 12] = _mm512_shuffle_i32x4(a[r + 8], a[r + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
        a[r] = _mm512_shuffle_i32x4(b[r], b[r + 8], 0x88);
        a[r + 8] = _mm512_shuffle_i32x4(b[r], b[r + 8], 0xdd);
        a[r + 4] = _mm512_shuffle_i32x4(b[r + 4], b[r + 12], 0x88);
        a[r + 12] = _mm512_shuffle_i32x4(b[r + 4], b[r + 12], 0xdd);
    }
}
#elif defined(__AVX2__)
// Eight rows of eight words to out[column * apart + row].
inline void turn_eight(const char* const* rows, int64_t offset, uint32_t* out, int64_t apart) {
    __m256i a[8], b[8];
    const auto row = [&](int r) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[r] + offset)); };
#pragma GCC unroll 4
    for (int r = 0; r < 8; r += 2) {
        const __m256i even = row(r), odd = row(r + 1);
        b[r] = _mm256_unpacklo_epi32(even, odd);
        b[r + 1] = _mm256_unpackhi_epi32(even, odd);
    }
#pragma GCC unroll 2
    for (int r = 0; r < 8; r += 4) {
        a[r] = _mm256_unpacklo_epi64(b[r], b[r + 2]);
        a[r + 1] = _mm256_unpackhi_epi64(b[r], b[r + 2]);
        a[r + 2] = _mm256_unpacklo_epi64(b[r + 1], b[r + 3]);
        a[r + 3] = _mm256_unpackhi_epi64(b[r + 1], b[r + 3]);
    }
    const auto put = [&](int column, __m256i words) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + column * apart), words);
    };
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
        put(c, _mm256_permute2x128_si256(a[c], a[c + 4], 0x20));
        put(c + 4, _mm256_permute2x128_si256(a[c], a[c + 4], 0x31));
    }
}
#endif

// words[row][column] of 16 rows to out[column][row].
inline void transpose(const char* const* rows, int64_t offset, int columns, uint32_t* out) {
#if defined(__AVX512F__)
    const __mmask16 mask = static_cast<__mmask16>((1u << columns) - 1);
    __m512i a[16];
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r) a[r] = _mm512_maskz_loadu_epi32(mask, rows[r] + offset);
    turn(a);
#pragma GCC unroll 16
    for (int c = 0; c < 16; ++c)
        if (c < columns) _mm512_storeu_si512(out + c * 16, a[c]);
#else
    int first = 0;
#if defined(__AVX2__)
    for (; first + 8 <= columns; first += 8)
        for (int half = 0; half < 16; half += 8)
            turn_eight(rows + half, offset + first * 4, out + first * 16 + half, 16);
#endif
    for (int c = first; c < columns; ++c)
        for (int r = 0; r < 16; ++r) std::memcpy(out + c * 16 + r, rows[r] + offset + c * 4, 4);
#endif
}

// words[row][column] of `count` rows, at most 16, that lie `stride` bytes apart, to out[column][row] without gaps.
inline void transpose_tightly(const char* rows, int64_t stride, int64_t count, int64_t columns, uint32_t* out) {
    int64_t column = 0;
#if defined(__AVX512F__)
    const __mmask16 own = static_cast<__mmask16>((1u << count) - 1);
    for (; column + 16 <= columns; column += 16, out += 16 * count) {
        __m512i a[16];
#pragma GCC unroll 16
        for (int r = 0; r < 16; ++r)
            a[r] = r < count ? _mm512_loadu_si512(rows + r * stride + column * 4) : _mm512_setzero_si512();
        turn(a);
        // A store of a whole register reaches into the next columns, which follow, and is much quicker than a masked one.
        if ((columns - column - 16) * count >= 16 - count)
#pragma GCC unroll 16
            for (int c = 0; c < 16; ++c) _mm512_storeu_si512(out + c * count, a[c]);
        else
#pragma GCC unroll 16
            for (int c = 0; c < 16; ++c) _mm512_mask_storeu_epi32(out + c * count, own, a[c]);
    }
#endif
    for (; column < columns; ++column)
        for (int64_t r = 0; r < count; ++r, ++out) std::memcpy(out, rows + r * stride + column * 4, 4);
}

}  // namespace baton
