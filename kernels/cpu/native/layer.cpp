// Dense decoder layers, one after the other, without a word of Python between them:
//
//     x += norm(output(attention(rotate(norm(qkv(norm(x)))))))        x += norm(down(gate(gate_up(norm(x)))))
//
// with the norms, biases and rotations that a layer has. Bound by what its linear layers and its attention are bound by.
// Exact because each part treats a row the same whatever is beside it.
#include "layer.h"

#include <algorithm>
#include <cstring>

#include "export.h"
#include "kv_row.h"
#include "pool.h"
#include "row.h"
#include "scratch.h"

extern "C" int64_t baton_attention(void* out, const void* q, int64_t q_stride, const void* pages, const int64_t* shape,
                                   const int64_t* rows, const int32_t* tables, int64_t layer, float scale,
                                   int64_t window, float softcap);

namespace baton {
namespace {

constexpr int64_t kRowsPerTask = 32;  // Chosen: some 20 us of work, ten times what handing it out costs.

template <class Function>
void for_rows(int64_t count, Function&& function) {
    const int64_t tasks = (count + kRowsPerTask - 1) / kRowsPerTask;
    parallel_for(tasks, [&](int64_t task) {
        for (int64_t row = task * kRowsPerTask; row < std::min(count, (task + 1) * kRowsPerTask); ++row) function(row);
    });
}

class Run {
public:
    Run(const Model& model, const Step& step)
        : model_(model), step_(step), type_(Type(model.type)), size_(size_of(type_)), tokens_(&step.tokens),
          stream_(step.stream) {
        const int64_t tokens = step.tokens.count;
        normal_ = scratch<20>(tokens * model.hidden * size_ + 64);
        qkv_ = scratch<21>(tokens * qkv_width() * size_ + 64);
        attended_ = scratch<22>(tokens * model.heads * model.dim * size_ + 64);
        inner_ = scratch<23>(tokens * model.intermediate * size_ + 64);
    }

    int64_t layer(const Layer& layer, int64_t number, bool is_last) {
        multiply(layer.qkv.of(type_), rows(normed(layer.attention_norm), model_.hidden, nullptr, qkv_));
        for_each_token([&](int64_t token, int64_t position, int64_t page, int64_t slot) {
            finish_heads(layer, number, qkv_ + token * qkv_width() * size_, position, page, slot);
        });
        if (is_last && step_.is_narrowing) keep_wanted();
        if (tokens_->count == 0) return 0;
        const int64_t refused = attend(layer, number);
        if (refused) return refused;
        add(layer.output, attended_, model_.heads * model_.dim, layer.attention_output_norm);
        multiply(layer.gate_up.of(type_), rows(normed(layer.mlp_norm), model_.hidden, nullptr, inner_));
        add(layer.down, inner_, model_.intermediate, layer.mlp_output_norm);
        return 0;
    }

private:
    int64_t qkv_width() const { return (model_.heads + 2 * model_.kv_heads) * model_.dim; }

    // From here on the tokens are the wanted ones: of the others the keys and values are stored.
    void keep_wanted() {
        char* const kept = scratch<24>(step_.wanted.count * qkv_width() * size_ + 64);
        gather(qkv_, qkv_width() * size_, kept);
        gather(stream_, model_.hidden * size_, step_.wanted_stream);
        qkv_ = kept;
        stream_ = step_.wanted_stream;
        tokens_ = &step_.wanted;
    }

    void gather(const char* from, int64_t row_bytes, char* to) const {
        for_rows(step_.wanted.count, [&](int64_t row) {
            std::memcpy(to + row * row_bytes, from + step_.wanted_places[row] * row_bytes, row_bytes);
        });
    }

    Rows rows(const char* x, int64_t channels, const char* residual, char* y) const {
        return {tokens_->count, x, channels, residual, y, false};
    }

    const char* normed(const float* weight) {
        if (weight == nullptr) return stream_;
        const int64_t width = model_.hidden * size_;
        for_rows(tokens_->count, [&](int64_t row) {
            norm_row(type_, stream_ + row * width, model_.hidden, weight, static_cast<float>(model_.epsilon),
                     normal_ + row * width);
        });
        return normal_;
    }

    // stream += norm(linear(x)), in one go where nothing comes between.
    void add(const LinearPart& part, const char* x, int64_t channels, const float* norm) {
        const float scale = static_cast<float>(model_.residual_scale);
        if (norm == nullptr && scale == 1.0f)
            return multiply(part.of(type_), rows(x, channels, stream_, stream_));
        multiply(part.of(type_), rows(x, channels, nullptr, normal_));
        for_rows(tokens_->count, [&](int64_t row) {
            char* own = normal_ + row * model_.hidden * size_;
            char* stream = stream_ + row * model_.hidden * size_;
            if (norm) norm_row(type_, own, model_.hidden, norm, static_cast<float>(model_.epsilon), own);
            for (int64_t at = 0; at < model_.hidden; ++at)
                store_one(type_, stream, at, load_one(type_, stream, at) + load_one(type_, own, at) * scale);
        });
    }

    template <class Function>
    void for_each_token(Function&& function) const {
        for (int64_t number = 0; number < tokens_->num_rows; ++number) {
            const int64_t* row = tokens_->rows + number * 4;
            const int64_t first = row[0], count = row[1], start = row[2];
            const int32_t* table = tokens_->tables + row[3];
            for_rows(count, [&](int64_t at) {
                const int64_t position = start + at;
                function(first + at, position, table[position / step_.slots], position % step_.slots);
            });
        }
    }

    // Norms and turns the heads of one token, and stores its keys and values.
    void finish_heads(const Layer& layer, int64_t number, char* qkv, int64_t position, int64_t page, int64_t slot) const {
        for (int64_t which = 0; which < layer.num_head_norms; ++which) {
            const HeadNorm& norm = layer.head_norms[which];
            for (int64_t head = 0; head < norm.heads; ++head) {
                char* own = qkv + (norm.first + head * norm.width) * size_;
                norm_row(type_, own, norm.width, norm.weight + head * norm.width, static_cast<float>(model_.epsilon), own);
            }
        }
        const int64_t dim = model_.dim, row_bytes = dim * size_;
        if (layer.cos)
            rotate_heads(type_, qkv, model_.heads + model_.kv_heads, dim, layer.turned,
                         layer.cos + position * layer.turned * size_, layer.sin + position * layer.turned * size_);
        const char* parts = qkv + model_.heads * row_bytes;
        const Pages pages{nullptr, Kind(step_.page_kind), step_.layers_of_pages, model_.kv_heads, step_.slots, dim, number};
        for (int64_t part = 0; part < 2; ++part)
            for (int64_t head = 0; head < model_.kv_heads; ++head) {
                const int64_t at = ((page * step_.layers_of_pages + number) * 2 + part) * model_.kv_heads + head;
                store_vector(Kind(step_.page_kind), type_, step_.pages + at * pages.head_bytes(), step_.slots, slot,
                             parts + (part * model_.kv_heads + head) * row_bytes, dim);
            }
    }

    int64_t attend(const Layer& layer, int64_t number) const {
        const int64_t shape[8] = {model_.type,   step_.page_kind, step_.layers_of_pages, model_.kv_heads,
                                  step_.slots,   model_.dim,  model_.heads,          tokens_->num_rows};
        return baton_attention(attended_, qkv_, qkv_width(), step_.pages, shape, tokens_->rows, tokens_->tables, number,
                               static_cast<float>(layer.scale), layer.window, static_cast<float>(layer.softcap));
    }

    const Model& model_;
    const Step& step_;
    const Type type_;
    const int64_t size_;
    const Tokens* tokens_;
    char* stream_;  // of `tokens_`
    char *normal_, *qkv_, *attended_, *inner_;
};

}  // namespace
}  // namespace baton

// These layers over the residual stream. 1: attention refuses the shape. 2: a wanted token is not among those of the step.
EXPORT int64_t baton_layers(const baton::Model* model, const baton::Layer* layers, int64_t count,
                            const baton::Step* step) {
    const baton::Tokens &tokens = step->tokens, &wanted = step->wanted;
    if (wanted.count > tokens.count) return 2;
    for (int64_t row = 0; row < wanted.count; ++row)
        if (step->wanted_places[row] < 0 || step->wanted_places[row] >= tokens.count) return 2;
    if (tokens.count < 1) return 0;
    baton::Run run(*model, *step);
    for (int64_t number = 0; number < count; ++number) {
        const int64_t refused = run.layer(layers[number], number, number == count - 1);
        if (refused) return refused;
    }
    return 0;
}

// Logits of every row of a stream, in fp32.
EXPORT int64_t baton_logits(const baton::Model* model, const baton::End* end, const char* stream, int64_t count,
                            float* logits) {
    using namespace baton;
    if (count < 1) return 0;
    const Type type = Type(model->type);
    const int64_t width = model->hidden * size_of(type);
    char* normal = scratch<20>(count * width + 64);
    for (int64_t row = 0; row < count; ++row)
        norm_row(type, stream + row * width, model->hidden, end->norm, static_cast<float>(model->epsilon),
                 normal + row * width);
    multiply(end->head.of(type), Rows{count, normal, model->hidden, nullptr, logits, true});
    return 0;
}
