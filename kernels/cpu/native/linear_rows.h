// Rows of x as a tile reads them: linear_tile.h says in which order.
#pragma once
#include <algorithm>
#include <cstring>

#include "linear_tile.h"
#include "transpose.h"

namespace baton {

// Pairs of channels that are turned at once: 8 KiB of the first cache for the tallest tile.
constexpr int64_t kPairsAtOnce = 128;

template <Type type>
inline Vec first_of_pairs(const uint16_t* from) {
    return type == Type::kBf16 ? even_bf16(from) : even_fp16(from);
}

template <Type type>
inline Vec second_of_pairs(const uint16_t* from) {
    return type == Type::kBf16 ? odd_bf16(from) : odd_fp16(from);
}

// One channel of `rows` rows. A whole register is written where more of this tile is written later, which is quicker.
inline void put_channel(float* to, const float* end, int64_t rows, Vec channel) {
    if (end - to >= kLanes) return store(to, channel);
    alignas(64) float edge[kLanes];
    store(edge, channel);
    std::memcpy(to, edge, rows * 4);
}

// Rows of bf16 or fp16 as fp32, [channel][row]; of bf16 the second channel of each pair comes first.
template <Type type>
void pack_widened(const uint16_t* x, int64_t stride, int64_t rows, int64_t channels, int64_t deep, float* to) {
    constexpr bool is_swapped = type == Type::kBf16;
    alignas(64) uint32_t words[(kPairsAtOnce + 1) * kLanes];
    const float* const end = to + deep * rows;
    const int64_t pairs = channels / 2;
    for (int64_t pair = 0; pair < pairs; pair += kPairsAtOnce) {
        const int64_t count = std::min(kPairsAtOnce, pairs - pair);
        transpose_tightly(reinterpret_cast<const char*>(x + pair * 2), stride * 2, rows, count, words);
        for (int64_t own = 0; own < count; ++own, to += 2 * rows) {
            const uint16_t* word = reinterpret_cast<const uint16_t*>(words + own * rows);
            const Vec first = first_of_pairs<type>(word), second = second_of_pairs<type>(word);
            put_channel(to, end, rows, is_swapped ? second : first);
            put_channel(to + rows, end, rows, is_swapped ? first : second);
        }
    }
    if (to == end) return;
    std::memset(to, 0, (end - to) * 4);
    if (channels % 2 == 0) return;
    for (int64_t row = 0; row < rows; ++row) {
        const uint16_t last = x[row * stride + channels - 1];
        to[(is_swapped ? rows : 0) + row] = type == Type::kBf16 ? from_bf16(last) : from_fp16(last);
    }
}

// Rows of x as run_tile reads them, channels filled up with zeros to `deep`.
template <Type type>
void pack_x(const void* x, int64_t stride, int64_t rows, int64_t channels, int64_t deep, char* to) {
    if constexpr (kTiled<type>) {
        const uint16_t* from = static_cast<const uint16_t*>(x);
        for (int64_t channel = 0; channel < deep; channel += 32)
            for (int64_t row = 0; row < rows; ++row, to += 64) {
                const int64_t width = channels - channel < 32 ? channels - channel : 32;
                std::memset(to, 0, 64);
                std::memcpy(to, from + row * stride + channel, width * 2);
            }
    } else if constexpr (type == Type::kBf16 && kHasPairs) {
        const uint16_t* from = static_cast<const uint16_t*>(x);
        uint32_t* pairs = reinterpret_cast<uint32_t*>(to);
        std::memset(pairs + channels / 2 * rows, 0, (deep / 2 - channels / 2) * rows * 4);
        transpose_tightly(static_cast<const char*>(x), stride * 2, rows, channels / 2, pairs);
        if (channels % 2)
            for (int64_t row = 0; row < rows; ++row) pairs[channels / 2 * rows + row] = from[row * stride + channels - 1];
    } else if constexpr (type == Type::kFp32) {
        uint32_t* words = reinterpret_cast<uint32_t*>(to);
        std::memset(words + channels * rows, 0, (deep - channels) * rows * 4);
        transpose_tightly(static_cast<const char*>(x), stride * 4, rows, channels, words);
    } else {
        pack_widened<type>(static_cast<const uint16_t*>(x), stride, rows, channels, deep, reinterpret_cast<float*>(to));
    }
}

}  // namespace baton
