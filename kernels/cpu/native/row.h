// What happens to single rows between two linear layers: norms, rotation, the way into pages. Each row on its own, every
// sum in one order, computed in fp32 and rounded once.
#pragma once
#include <cmath>

#include "linear.h"
#include "vec.h"

namespace baton {

inline Vec load_as(Type type, const void* from, int64_t offset) {
    if (type == Type::kFp32) return load(static_cast<const float*>(from) + offset);
    const uint16_t* narrow = static_cast<const uint16_t*>(from) + offset;
    return type == Type::kBf16 ? load_bf16(narrow) : load_fp16(narrow);
}

inline void store_as(Type type, void* to, int64_t offset, Vec value) {
    if (type == Type::kFp32) return store(static_cast<float*>(to) + offset, value);
    uint16_t* narrow = static_cast<uint16_t*>(to) + offset;
    type == Type::kBf16 ? store_bf16(narrow, value) : store_fp16(narrow, value);
}

inline float load_one(Type type, const void* from, int64_t offset) {
    if (type == Type::kFp32) return static_cast<const float*>(from)[offset];
    const uint16_t narrow = static_cast<const uint16_t*>(from)[offset];
    return type == Type::kBf16 ? from_bf16(narrow) : from_fp16(narrow);
}

inline void store_one(Type type, void* to, int64_t offset, float value) {
    if (type == Type::kFp32) static_cast<float*>(to)[offset] = value;
    else static_cast<uint16_t*>(to)[offset] = type == Type::kBf16 ? to_bf16(value) : to_fp16(value);
}

// The sum of the lanes, in halves: the same tree on every instruction set.
inline float sum_lanes(Vec value) {
    alignas(64) float lanes[kLanes];
    store(lanes, value);
    for (int width = kLanes / 2; width > 0; width /= 2)
        for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    return lanes[0];
}

// to = x / sqrt(mean(x^2) + epsilon) * weight. `to` may be x.
inline void norm_row(Type type, const void* x, int64_t size, const float* weight, float epsilon, void* to) {
    Vec squares = zero();
    int64_t at = 0;
    for (; at + kLanes <= size; at += kLanes) {
        const Vec part = load_as(type, x, at);
        squares = fma(part, part, squares);
    }
    float sum = sum_lanes(squares);
    for (int64_t rest = at; rest < size; ++rest) sum += load_one(type, x, rest) * load_one(type, x, rest);
    const float scale = 1.0f / std::sqrt(sum / static_cast<float>(size) + epsilon);
    const Vec scales = fill(scale);
    for (at = 0; at + kLanes <= size; at += kLanes)
        store_as(type, to, at, load_as(type, x, at) * scales * load(weight + at));
    for (; at < size; ++at) store_one(type, to, at, load_one(type, x, at) * scale * weight[at]);
}

// Turns channel pairs (i, i + turned) of every head by angle i; cos and sin are the position's rows, `turned` long.
inline void rotate_heads(Type type, char* heads, int64_t num_heads, int64_t dim, int64_t turned, const void* cos,
                         const void* sin) {
    for (int64_t head = 0; head < num_heads; ++head) {
        char* own = heads + head * dim * size_of(type);
        int64_t at = 0;
        for (; at + kLanes <= turned; at += kLanes) {
            const Vec left = load_as(type, own, at), right = load_as(type, own, at + turned);
            const Vec c = load_as(type, cos, at), s = load_as(type, sin, at);
            store_as(type, own, at, left * c - right * s);
            store_as(type, own, at + turned, right * c + left * s);
        }
        for (; at < turned; ++at) {
            const float left = load_one(type, own, at), right = load_one(type, own, at + turned);
            const float c = load_one(type, cos, at), s = load_one(type, sin, at);
            store_one(type, own, at, left * c - right * s);
            store_one(type, own, at + turned, right * c + left * s);
        }
    }
}

}  // namespace baton
