// A tile of keys and values, copied out of its pages into the order that the products read.
//
//     keys    [group of 16][channels / step][16 keys][step]       step 2 for bf16 pairs, else 1
//     values  [keys / step][channels, padded to 16][step]
//
// What lies beyond the context is zero: unused slots may hold anything, NaN included.
#pragma once
#include <algorithm>

#include "attention.h"
#include "eight_bits.h"
#include "transpose.h"

namespace baton {

inline int64_t padded(int64_t dim) { return (dim + kLanes - 1) / kLanes * kLanes; }

// Where the keys and values of a tile begin.
struct TileRows {
    const char* keys[kTile];
    const char* values[kTile];
    float key_scales[kTile], value_scales[kTile];  // of eight-bit pages
    int count;
};

// Keys of one head from `first`, with which a tile begins, to `end`. None: `first` is not below `end`.
struct Keys {
    const Pages* pages;
    const int32_t* table;
    int64_t head;
    int64_t first, end;
};

// Those of the tile that begins at `first`; none beyond the end.
inline void find_rows(const Keys& keys, int64_t first, TileRows& rows) {
    const Pages& pages = *keys.pages;
    rows.count = static_cast<int>(std::clamp<int64_t>(keys.end - first, 0, kTile));
    if (rows.count == 0) return;
    int64_t column = first / pages.slots, slot = first % pages.slots;
    const int64_t row_bytes = pages.row_bytes(), apart = pages.values_after_keys();
    // A scale of a slot that is not there would turn its zero scores into anything.
    if (is_scaled(pages.kind))
        for (int key = rows.count; key < kTile; ++key) rows.key_scales[key] = rows.value_scales[key] = 0.0f;
    for (int done = 0; done < rows.count; ++column, slot = 0) {
        const char* chunk = pages.keys_of(keys.table[column], keys.head);
        const char* scales = chunk + pages.slots * row_bytes;
        for (; slot < pages.slots && done < rows.count; ++slot, ++done) {
            rows.keys[done] = chunk + slot * row_bytes;
            rows.values[done] = rows.keys[done] + apart;
            if (is_scaled(pages.kind)) {
                std::memcpy(&rows.key_scales[done], scales + slot * 4, 4);
                std::memcpy(&rows.value_scales[done], scales + apart + slot * 4, 4);
            }
        }
    }
}

// Asks for 16 rows of a later tile, so that they are here when it is packed. Into the second cache: the first holds what
// is computed with, and rows that push it out make one thread read 7 GB/s instead of 12 (Zen 4).
inline void fetch_rows(const char* const* rows, int first, int count, int64_t row_bytes) {
    for (int row = first; row < first + kLanes && row < count; ++row)
        for (int64_t line = 0; line < row_bytes; line += 64) __builtin_prefetch(rows[row] + line, 0, 1);
}

// 16 elements of a row of pages.
inline Vec load_stored(Kind kind, const char* from) {
    switch (kind) {
        case Kind::kFp32: return load(reinterpret_cast<const float*>(from));
        case Kind::kBf16: return load_bf16(reinterpret_cast<const uint16_t*>(from));
        case Kind::kFp16: return load_fp16(reinterpret_cast<const uint16_t*>(from));
        case Kind::kInt8: return load_int8(reinterpret_cast<const int8_t*>(from));
        default: return load_e4m3(reinterpret_cast<const uint8_t*>(from));
    }
}

// One row as elements of a product. Eight bits are exact in bf16, integers and floats alike.
template <class Math>
inline void widen(const char* from, Kind kind, int64_t dim, typename Math::Element* to) {
    const int64_t bytes = bytes_of(kind);
    int64_t c = 0;
    for (; c + kLanes <= dim; c += kLanes) Math::put(to + c, load_stored(kind, from + c * bytes));
    if (c == dim) return;
    alignas(64) char edge[kLanes * 4] = {};
    alignas(64) typename Math::Element wide[kLanes];
    std::memcpy(edge, from + c * bytes, (dim - c) * bytes);
    Math::put(wide, load_stored(kind, edge));
    std::memcpy(to + c, wide, (dim - c) * sizeof(wide[0]));
}

template <class Math>
inline bool is_as_stored(Kind kind) {
    return kind == (Math::kStep == 2 ? Kind::kBf16 : Kind::kFp32);
}

// `spare` holds 16 rows. `next` is fetched meanwhile.
template <class Math>
void pack_keys(const TileRows& tile, const TileRows& next, Kind kind, int64_t dim, typename Math::Element* spare,
               typename Math::Element* out) {
    using Element = typename Math::Element;
    const int64_t words = dim / Math::kStep;
    alignas(64) static const char zeros[kMaxDim * 4] = {};
    for (int group = 0; group < kGroups; ++group, out += kLanes * dim) {
        const int first = group * kLanes;
        fetch_rows(next.keys, first, next.count, dim * bytes_of(kind));
        if (first >= tile.count) {
            std::memset(out, 0, kLanes * dim * sizeof(Element));
            continue;
        }
        const char* rows[kLanes];
        for (int r = 0; r < kLanes; ++r) {
            if (first + r >= tile.count) {
                rows[r] = zeros;
            } else if (is_as_stored<Math>(kind)) {
                rows[r] = tile.keys[first + r];
            } else {
                widen<Math>(tile.keys[first + r], kind, dim, spare + r * dim);
                rows[r] = reinterpret_cast<const char*>(spare + r * dim);
            }
        }
        for (int64_t word = 0; word < words; word += kLanes)
            transpose(rows, word * 4, static_cast<int>(words - word < kLanes ? words - word : kLanes),
                      reinterpret_cast<uint32_t*>(out) + word * kLanes);
    }
}

// Two rows of bf16, one element of each in turn.
inline void interleave(const uint16_t* even, const uint16_t* odd, int64_t dim, uint16_t* out) {
    int64_t c = 0;
#if defined(__AVX512BW__)
    for (; c + 16 <= dim; c += 16) {
        const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(even + c)));
        const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(odd + c)));
        _mm512_storeu_si512(out + 2 * c, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
#endif
    for (; c < dim; ++c) {
        out[2 * c] = even[c];
        out[2 * c + 1] = odd[c];
    }
    for (; c < padded(dim); ++c) out[2 * c] = out[2 * c + 1] = 0;
}

// `spare` holds two rows.
template <class Math>
void pack_values(const TileRows& tile, const TileRows& next, Kind kind, int64_t dim, typename Math::Element* spare,
                 typename Math::Element* out) {
    using Element = typename Math::Element;
    const int64_t width = padded(dim);
    for (int key = 0; key < kTile; key += Math::kStep, out += width * Math::kStep) {
        if (key % kLanes == 0) fetch_rows(next.values, key, next.count, dim * bytes_of(kind));
        if (key >= tile.count) {
            std::memset(out, 0, width * Math::kStep * sizeof(Element));
        } else if constexpr (Math::kStep == 1) {
            widen<Math>(tile.values[key], kind, dim, out);
            for (int64_t c = dim; c < width; ++c) out[c] = 0;
        } else {
            const Element* rows[2];
            for (int r = 0; r < 2; ++r) {
                Element* own = spare + r * dim;
                if (key + r >= tile.count) std::memset(own, 0, dim * sizeof(Element));
                else if (!is_as_stored<Math>(kind)) widen<Math>(tile.values[key + r], kind, dim, own);
                const bool is_direct = key + r < tile.count && is_as_stored<Math>(kind);
                rows[r] = is_direct ? reinterpret_cast<const Element*>(tile.values[key + r]) : own;
            }
            interleave(rows[0], rows[1], dim, out);
        }
    }
}

}  // namespace baton
