// Stores one vector, a head's key or value of one token, into its slot.
//
// Pages of eight bits: value = number * scale, scale = max |x| / largest, number = x * (largest / max |x|) rounded to
// nearest even; a chunk holds the numbers of all slots and then their fp32 scales. kernels/quantized_pages.py does the
// same, bit for bit. A vector with NaN or infinity gets scale NaN, so that whoever reads it knows.
#pragma once
#include "attention.h"
#include "eight_bits.h"
#include "row.h"

namespace baton {

constexpr float kSmallestVector = 0x1p-100f;  // kernels/quantized_pages.py, SMALLEST

// `chunk`: the slots of one page, layer, part and head.
inline void store_vector(Kind kind, Type type, char* chunk, int64_t slots, int64_t slot, const char* x, int64_t dim) {
    if (!is_scaled(kind)) {
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
    const float limit = kind == Kind::kInt8 ? 127.0f : 448.0f;
    const float factor = is_finite && largest >= kSmallestVector ? limit / largest : 0.0f;
    const float scale = is_finite ? largest / limit : __builtin_nanf("");
    uint8_t* const to = reinterpret_cast<uint8_t*>(chunk) + slot * dim;
    for (int64_t at = 0; at < dim; ++at) {
        const float number = is_finite ? values[at] * factor : 0.0f;
        to[at] = kind == Kind::kFp8 ? to_e4m3(number) : static_cast<uint8_t>(static_cast<int8_t>(std::nearbyintf(number)));
    }
    std::memcpy(chunk + slots * dim + slot * 4, &scale, 4);
}

}  // namespace baton
