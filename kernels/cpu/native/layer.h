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

// Tokens end to end as rows: per row its first token, number of tokens, position of the first, first entry in `tables`.
struct Tokens {
    int64_t count;
    int64_t num_rows;
    const int64_t* rows;
    const int32_t* tables;
};

// Pages [page][layer][key, value][head][slot][channel], and the tokens of this step.
struct Step {
    char* pages;
    int64_t layers_of_pages, slots;
    int64_t page_kind;  // attention.h, enum Kind: the model's type, or eight bits
    Tokens tokens;
    char* stream;  // (tokens, hidden), in place
    // Where it narrows, of the last of these layers only some tokens' stream is wanted, or none's: of the others that
    // layer stores keys and values, and no more.
    int64_t is_narrowing;
    const int64_t* wanted_places;  // among the tokens
    Tokens wanted;
    char* wanted_stream;  // (wanted, hidden)
};

// The final norm and the head.
struct End {
    const float* norm;
    LinearPart head;
};

}  // namespace baton
