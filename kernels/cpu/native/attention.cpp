// out = softmax(score(q, k)) v over pages: rows of new tokens, each causal over its own context. One token is a row too.
//
// Exact: a token's result has the same bits alone or beside others, in whatever chunk of its context, on any number of
// threads. Its keys are cut into spans of 1,024 and those into tiles of 64, both counted from position 0. Within a tile a
// score is summed over channels in rising order, a sum of values over keys in rising order, one accumulator each, whatever
// the number of queries beside it: many share a copy of the tile (attention_tile.h), a few read it where it lies
// (attention_in_place.h). Tiles follow in order within a span; spans are joined in order.
// Threads share blocks of queries and, where these are few, spans: never a tile.
//
// Bound by bytes of the context for one token, by the products for many: 4 dim operations per query, head and key.
#include <algorithm>
#include <vector>

#include "attention_in_place.h"
#include "export.h"
#include "pool.h"
#include "scratch.h"

namespace baton {
namespace {

constexpr int64_t kBlockRows = 192;  // Measured: queries of a block, all that share its key head counted.
constexpr int64_t kUnitsPerThread = 4;  // Chosen: with fewer blocks than this per thread, spans are shared as well.
constexpr Keys kNoKeys{};

struct Row {
    int64_t first, count;  // its tokens among all
    int64_t start;         // position of the first
    int64_t table;         // where its page table begins
};

struct Call {
    Kind kind;  // of q and out
    const char* q;
    int64_t q_stride;
    char* out;
    int64_t heads;
    Pages pages;
    const int32_t* tables;
    Form form;

    int group() const { return static_cast<int>(heads / pages.heads); }
};

// A block of queries of one row with one key head.
struct Unit {
    const Row* row;
    int64_t head;
    int64_t begin, end;  // tokens of the row

    int64_t position() const { return row->start + begin; }
    int64_t last() const { return row->start + end - 1; }
    int64_t first_span(const Form& form) const { return form.first_key(position()) / kSpan; }
    int64_t num_spans(const Form& form) const { return last() / kSpan - first_span(form) + 1; }
};

inline void write_row(const float* sums, float total, int64_t dim, Kind kind, char* to) {
    const Vec by = fill(total);
    alignas(64) char converted[kLanes * 4];
    const int64_t size = bytes_of(kind);
    for (int64_t c = 0; c < dim; c += kLanes) {
        // Plus zero: products too small for their type leave a zero of either sign, which unseen keys may turn.
        const Vec value = load(sums + c) / by + zero();
        if (kind == Kind::kFp32) store(reinterpret_cast<float*>(converted), value);
        else if (kind == Kind::kBf16) store_bf16(reinterpret_cast<uint16_t*>(converted), value);
        else store_fp16(reinterpret_cast<uint16_t*>(converted), value);
        std::memcpy(to + c * size, converted, std::min<int64_t>(kLanes, dim - c) * size);
    }
}

template <class Math>
class Work {
public:
    using Element = typename Math::Element;

    Work(const Call& call, const Unit& unit)
        : call_(call), unit_(unit), num_rows_((unit.end - unit.begin) * call.group()) {}

    // Sums up one span of keys. `after` is what this thread will most likely read next.
    void add_span(int64_t span, const State& state, const Keys& after) const {
        const int64_t dim = call_.pages.dim, width = padded(dim);
        Element* const memory = reinterpret_cast<Element*>(
            scratch<4>((num_rows_ * dim + kTile * (dim + width) + kLanes * dim + 128) * sizeof(Element)));
        Element *const keys = memory, *const values = keys + kTile * dim;
        Element *const rows = values + kTile * width, *const spare = rows + num_rows_ * dim;
        pack_queries(rows);
        const Queries<Math> queries{rows, dim, unit_.position(), call_.group()};
        state.clear(num_rows_, dim);
        const Keys own = keys_in(span);
#if defined(__AVX512F__)
        if (can_stay<Math>(call_.pages, num_rows_))
            return attend_in_place(num_rows_, queries, own, after, call_.form, state);
#endif
        TileRows tiles[2];
        int turn = 0;
        find_rows(own, own.first, tiles[turn]);
        for (int64_t first = own.first; first < own.end; first += kTile, turn ^= 1) {
            const TileRows& here = tiles[turn];
            TileRows& next = tiles[turn ^ 1];
            first + kTile < own.end ? find_rows(own, first + kTile, next) : find_rows(after, after.first, next);
            pack_keys<Math>(here, next, call_.pages.kind, dim, spare, keys);
            pack_values<Math>(here, next, call_.pages.kind, dim, spare, values);
            const bool has_scales = is_scaled(call_.pages.kind);
            const Tile<Math> tile{keys, values, has_scales ? here.key_scales : nullptr,
                                  has_scales ? here.value_scales : nullptr, first};
            attend_tile<Math>(queries, first_row(first), end_row(first), tile, call_.form, state);
        }
    }

    // Joins the sums of a span to those of the spans before it.
    void join(const State& all, const State& span) const {
        const int64_t width = padded(call_.pages.dim);
        for (int64_t row = 0; row < num_rows_; ++row) {
            const float largest = std::max(all.largest[row], span.largest[row]);
            alignas(64) float fades[2][kLanes];
            store(fades[0], power_of_2<true>(fill(all.largest[row] - largest)));
            store(fades[1], power_of_2<true>(fill(span.largest[row] - largest)));
            const Vec older = fill(fades[0][0]), newer = fill(fades[1][0]);
            const auto add = [&](float* to, const float* from) { store(to, fma(load(from), newer, load(to) * older)); };
            all.largest[row] = largest;
            add(all.totals + row * kLanes, span.totals + row * kLanes);
            for (int64_t c = 0; c < width; c += kLanes) add(all.sums + row * width + c, span.sums + row * width + c);
        }
    }

    void write(const State& all) const {
        const int64_t dim = call_.pages.dim, group = call_.group(), size = bytes_of(call_.kind);
        for (int64_t row = 0; row < num_rows_; ++row) {
            const int64_t token = unit_.row->first + unit_.begin + row / group;
            const int64_t head = unit_.head * group + row % group;
            const float total = total_of(load(all.totals + row * kLanes));
            write_row(all.sums + row * padded(dim), total, dim, call_.kind,
                      call_.out + (token * call_.heads + head) * dim * size);
        }
    }

    // Both in one go: spans in order.
    void run(const Keys& after) const {
        const int64_t floats = State::floats(num_rows_, call_.pages.dim) + kLanes;
        float* const memory = reinterpret_cast<float*>(scratch<5>(2 * floats * sizeof(float)));
        const State all = state_at(memory), one = state_at(memory + floats / kLanes * kLanes);
        const int64_t first = unit_.first_span(call_.form), end = first + unit_.num_spans(call_.form);
        if (end == first + 1) {  // Joined to nothing a span stays as it is.
            add_span(first, all, after);
            return write(all);
        }
        all.clear(num_rows_, call_.pages.dim);
        for (int64_t span = first; span < end; ++span) {
            add_span(span, one, span + 1 == end ? after : keys_in(span + 1));
            join(all, one);
        }
        write(all);
    }

    State state_at(float* memory) const { return State::at(memory, num_rows_, call_.pages.dim); }

    Keys keys_in(int64_t span) const {
        const int64_t first = call_.form.first_key(unit_.position()) / kTile * kTile;
        return {&call_.pages, call_.tables + unit_.row->table, unit_.head, std::max(span * kSpan, first),
                std::min((span + 1) * kSpan, unit_.last() + 1)};
    }

    Keys first_keys() const { return keys_in(unit_.first_span(call_.form)); }

private:
    void pack_queries(Element* rows) const {
        const int64_t dim = call_.pages.dim, group = call_.group(), size = bytes_of(call_.kind);
        for (int64_t row = 0; row < num_rows_; ++row) {
            const int64_t token = unit_.row->first + unit_.begin + row / group;
            const int64_t head = unit_.head * group + row % group;
            widen<Math>(call_.q + (token * call_.q_stride + head * dim) * size, call_.kind, dim, rows + row * dim);
        }
    }

    // Rows before this one see no key of the tile: it lies in their future.
    int64_t first_row(int64_t tile) const {
        return std::max<int64_t>(0, tile - unit_.position()) * call_.group();
    }
    // Nor do rows from this one on: it lies before their window.
    int64_t end_row(int64_t tile) const {
        if (call_.form.window == 0) return num_rows_;
        const int64_t tokens = tile + kTile + call_.form.window - 1 - unit_.position();
        return std::min(num_rows_, std::max<int64_t>(0, tokens) * call_.group());
    }

    const Call& call_;
    const Unit& unit_;
    const int64_t num_rows_;
};

void cut(const Call& call, const Row* rows, int64_t num_rows, std::vector<Unit>& units) {
    const int64_t tokens = std::max<int64_t>(1, kBlockRows / call.group());
    units.clear();
    for (const Row* row = rows; row < rows + num_rows; ++row) {
        // The last block sees the most keys and begins first, so that no thread is left alone with it.
        for (int64_t block = (row->count + tokens - 1) / tokens - 1; block >= 0; --block)
            for (int64_t head = 0; head < call.pages.heads; ++head)
                units.push_back({row, head, block * tokens, std::min(row->count, (block + 1) * tokens)});
    }
}

// Few blocks, long contexts: every span is a task, and joining them comes second.
template <class Math>
void run_spans(const Call& call, const std::vector<Unit>& units) {
    struct Part {
        const Unit* unit;
        int64_t span;
        int64_t memory;
    };
    static thread_local std::vector<Part> parts;
    static thread_local std::vector<int64_t> firsts;
    parts.clear();
    firsts.clear();
    int64_t floats = 0;
    for (const Unit& unit : units) {
        firsts.push_back(static_cast<int64_t>(parts.size()));
        const int64_t own = State::floats((unit.end - unit.begin) * call.group(), call.pages.dim);
        for (int64_t span = 0; span < unit.num_spans(call.form); ++span, floats += (own + kLanes) / kLanes * kLanes)
            parts.push_back({&unit, unit.first_span(call.form) + span, floats});
    }
    firsts.push_back(static_cast<int64_t>(parts.size()));
    float* const memory = reinterpret_cast<float*>(scratch<6>(floats * sizeof(float)));
    // Plain pointers: inside a task, which may run on another thread, the names above are that thread's own.
    const Part* const all_parts = parts.data();
    const int64_t* const all_firsts = firsts.data();
    parallel_for(static_cast<int64_t>(parts.size()), [&](int64_t index) {
        const Part& part = all_parts[index];
        const Work<Math> work(call, *part.unit);
        work.add_span(part.span, work.state_at(memory + part.memory), kNoKeys);
    });
    parallel_for(static_cast<int64_t>(units.size()), [&](int64_t index) {
        const Work<Math> work(call, units[index]);
        const int64_t num_rows = (units[index].end - units[index].begin) * call.group();
        const State all = work.state_at(
            reinterpret_cast<float*>(scratch<5>(State::floats(num_rows, call.pages.dim) * sizeof(float))));
        all.clear(num_rows, call.pages.dim);
        for (int64_t part = all_firsts[index]; part < all_firsts[index + 1]; ++part)
            work.join(all, work.state_at(memory + all_parts[part].memory));
        work.write(all);
    });
}

template <class Math>
void attend(const Call& call, const Row* rows, int64_t num_rows) {
    static thread_local std::vector<Unit> units;
    cut(call, rows, num_rows, units);
    const Unit* const all = units.data();
    const int64_t count = static_cast<int64_t>(units.size());
    const bool is_long = std::any_of(all, all + count, [&](const Unit& unit) { return unit.num_spans(call.form) > 1; });
    if (is_long && num_threads() > 1 && count < kUnitsPerThread * num_threads()) return run_spans<Math>(call, units);
    // A task of several heads knows what it reads next, and asks for it in time.
    const int64_t heads = call.pages.heads;
    const int64_t each = count >= heads * kUnitsPerThread * num_threads() ? heads : 1;
    parallel_for(count / each, [&](int64_t task) {
        for (int64_t index = task * each; index < (task + 1) * each; ++index)
            Work<Math>(call, all[index])
                .run(index + 1 < (task + 1) * each ? Work<Math>(call, all[index + 1]).first_keys() : kNoKeys);
    });
}

}  // namespace
}  // namespace baton

// shape: kinds of q and of the pages; layers, key heads, slots, dim of the pages; query heads; number of rows.
// rows: first token, tokens, first position, offset into `tables`. q (tokens, heads, dim) with `q_stride` elements per
// token; out the same, contiguous. Page numbers were checked by whoever made the tables.
EXPORT int64_t baton_attention(void* out, const void* q, int64_t q_stride, const void* pages, const int64_t* shape,
                               const int64_t* rows, const int32_t* tables, int64_t layer, float scale, int64_t window,
                               float softcap) {
    using namespace baton;
    const Kind kind = static_cast<Kind>(shape[0]);
    const Call call{
        kind,
        static_cast<const char*>(q),
        q_stride,
        static_cast<char*>(out),
        shape[6],
        Pages{static_cast<const char*>(pages), static_cast<Kind>(shape[1]), shape[2], shape[3], shape[4], shape[5], layer},
        tables,
        Form{scale, window, softcap},
    };
    if (call.pages.dim > kMaxDim || call.pages.dim % 8 != 0 || call.heads % call.pages.heads != 0) return 1;
    const Row* const own = reinterpret_cast<const Row*>(rows);
#if defined(__AVX512BF16__)
    const bool is_pairs = call.pages.kind == Kind::kBf16 || is_scaled(call.pages.kind);
    if (kind == Kind::kBf16 && is_pairs) {
        attend<Bf16Pairs>(call, own, shape[7]);
        return 0;
    }
#endif
    attend<Fp32>(call, own, shape[7]);
    return 0;
}
