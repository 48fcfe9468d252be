// What a stack of dense decoder layers is made of. Numbers and addresses come from kernels/cpu/native_layers.py in this order.
#pragma once
#include "linear.h"

namespace baton {

struct Model {
    int64_t type, hidden, heads, kv_heads, dim, intermediate;
    double epsilon, residual_scale;
};

struct LinearPart {
    int64_t outputs, channels, gate;
    const void* packed;
    const float* bias;

    Linear of(Type type) const { return {type, outputs, channels, Gate(gate), packed, bias}; }
};

// `heads` heads from channel `first` of the fused projection, each over its own `width` channels of `weight`.
struct HeadNorm {
    int64_t first, heads, width;
    const float* weight;
};

struct Layer {
    const float* attention_norm;  // null: none, as all norms
    LinearPart qkv;
    int64_t num_head_norms;
    HeadNorm head_norms[2];
    const char *cos, *sin;  // a row per position; null: not turned
    int64_t turned;
    double scale;
    int64_t window;
    double softcap;
    LinearPart output;
    const float* attention_output_norm;
    const float* mlp_norm;
    LinearPart gate_up;
    LinearPart down;
    const float* mlp_output_norm;
};

// Pages [page][layer][key, value][head][slot][channel], and the rows of this step: per row its first
// token, number of tokens, position of the first, first entry in `tables`.
struct Step {
    int64_t num_tokens;
    char* stream;  // (tokens, hidden), in place
    char* pages;
    int64_t layers_of_pages, slots;
    int64_t num_rows;
    const int64_t* rows;
    const int32_t* tables;
    int64_t page_kind;  // attention.h, enum Kind: the model's type, or eight bits
};

// The final norm and the head.
struct End {
    const float* norm;
    LinearPart head;
};

}  // namespace baton
