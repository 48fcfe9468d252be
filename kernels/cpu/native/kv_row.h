// Stores one vector, a head's key or value of one token, into its slot.
//
// Pages of eight bits: value = integer * scale, scale = max |x| / 127, integer = x * (127 / max |x|) rounded to nearest
// even; a chunk holds the integers of all slots and then their fp32 scales. kernels/quantized_pages.py does the same, bit
// for bit. A vector with NaN or infinity gets scale NaN, so that whoever reads it knows.
#pragma once
#include "attention.h"
#include "row.h"

namespace baton {

// `chunk`: the slots of one page, layer, part and head.
inline void store_vector(Kind kind, Type type, char* chunk, int64_t slots, int64_t slot, const char* x, int64_t dim) {
    if (kind != Kind::kInt8) {
        std::memcpy(chunk + slot * dim * size_of(type), x, dim * size_of(type));
        return;
    }
    float values[kMaxDim];
    float largest = 0.0f, poison = 0.0f;
    for (int64_t at = 0; at < dim; ++at) {
        values[at] = load_one(type, x, at);
        const float size = std::fabs(values[at]);
        largest = largest < size ? size : largest;
        poison += values[at] * 0.0f;
    }
    const bool is_finite = poison == 0.0f;
    const float factor = is_finite && largest > 0.0f ? 127.0f / largest : 0.0f;
    const float scale = is_finite ? largest / 127.0f : __builtin_nanf("");
    int8_t* const to = reinterpret_cast<int8_t*>(chunk) + slot * dim;
    for (int64_t at = 0; at < dim; ++at)
        to[at] = is_finite ? static_cast<int8_t>(std::nearbyintf(values[at] * factor)) : int8_t{0};
    std::memcpy(chunk + slots * dim + slot * 4, &scale, 4);
}

}  // namespace baton
