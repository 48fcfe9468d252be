// A small pool: threads spin for some microseconds after a job, then sleep.
//
// A job is one 64-bit word, its number in the upper half and the tasks left in the lower: a thread claims a task by
// lowering it, so one that wakes late finds nothing to do and nobody waits for it. The caller waits for claimed tasks only.
#include "pool.h"

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "bell.h"
#include "export.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace baton {
namespace {

// Chosen: about the gap between two operators of a step. A pause takes 10 to 140 cycles: 10 to 100 us.
constexpr int kSpins = 2000;

inline void relax() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

class Pool {
public:
    explicit Pool(int num_threads) {
        for (int index = 1; index < num_threads; ++index) threads_.emplace_back([this] { work(); });
    }

    ~Pool() {
        is_closed_.store(true);
        begun_.ring();
        for (auto& thread : threads_) thread.join();
    }

    int size() const { return static_cast<int>(threads_.size()) + 1; }

    void run(int64_t count, Body body, void* context) {
        body_ = body;
        context_ = context;
        count_ = count;
        done_.store(0, std::memory_order_relaxed);
        job_.store((++number_ << 32) | static_cast<uint64_t>(count));
        begun_.ring();
        while (step()) {}
        for (int spins = 0; spins < kSpins && done_.load(std::memory_order_acquire) != count; ++spins) relax();
        for (uint32_t heard = ended_.heard(); done_.load() != count; heard = ended_.heard()) ended_.wait(heard);
    }

private:
    // Claim and run one task. False when none is left.
    bool step() {
        uint64_t job = job_.load(std::memory_order_acquire);
        do {
            if ((job & 0xffffffffu) == 0) return false;
        } while (!job_.compare_exchange_weak(job, job - 1, std::memory_order_acq_rel, std::memory_order_acquire));
        // The job cannot end before this task does, so its fields stand still.
        const int64_t count = count_;
        body_(context_, count - static_cast<int64_t>(job & 0xffffffffu));
        if (done_.fetch_add(1) + 1 == count) ended_.ring();
        return true;
    }

    void work() {
        while (!is_closed_.load(std::memory_order_relaxed)) {
            const uint32_t heard = begun_.heard();
            while (step()) {}
            for (int spins = 0; spins < kSpins && begun_.heard() == heard; ++spins) relax();
            begun_.wait(heard);
        }
    }

    alignas(64) std::atomic<uint64_t> job_{0};
    alignas(64) std::atomic<int64_t> done_{0};
    alignas(64) Bell begun_;
    alignas(64) Bell ended_;
    std::atomic<bool> is_closed_{false};
    Body body_ = nullptr;
    void* context_ = nullptr;
    int64_t count_ = 0;
    uint64_t number_ = 0;
    std::vector<std::thread> threads_;
};

// Never destroyed at exit: threads may still be asleep in it.
Pool* pool = nullptr;
std::mutex callers;
std::atomic<int> size{1};

}  // namespace

int num_threads() { return size.load(std::memory_order_relaxed); }

void run_tasks(int64_t count, Body body, void* context) {
    std::unique_lock<std::mutex> turn(callers, std::try_to_lock);
    if (turn.owns_lock() && pool != nullptr && count > 1) {
        pool->run(count, body, context);
        return;
    }
    // Another thread has the pool: its tasks and ours would only take turns.
    for (int64_t index = 0; index < count; ++index) body(context, index);
}

}  // namespace baton

EXPORT int64_t baton_abi() { return 1; }

// How many threads compute from now on, the caller included; the old ones end first.
EXPORT int64_t baton_set_threads(int64_t num_threads) {
    using namespace baton;
    if (num_threads < 1 || num_threads > 1024) return 1;
    const std::lock_guard<std::mutex> turn(callers);
    delete pool;
    pool = num_threads > 1 ? new Pool(static_cast<int>(num_threads)) : nullptr;
    size.store(static_cast<int>(num_threads));
    return 0;
}

EXPORT int64_t baton_num_threads() { return baton::num_threads(); }
