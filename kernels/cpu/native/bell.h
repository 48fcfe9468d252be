// A bell for threads that wait: it counts its rings, and who has heard of one sleeps until the next.
//
// std::atomic's wait would do, but gives its core away four times by sched_yield before it sleeps. On a core that others
// want as well each of these is a slice of theirs, some milliseconds, for a wait of microseconds: a woken thread has its
// turn back at once, one that gave it away has not.
#pragma once
#include <atomic>
#include <cstdint>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#endif

namespace baton {

class Bell {
public:
    // How often it rang. Ask before you look for what it rings for.
    uint32_t heard() const { return rings_.load(); }

    void ring() {
        rings_.fetch_add(1);
        if (num_asleep_.load() > 0) wake();
    }

    // Until it has rung since `heard`, or for no reason at all.
    void wait(uint32_t heard) {
        if (rings_.load() != heard) return;
        num_asleep_.fetch_add(1);  // before the sleep looks at the rings: whoever rings sees one of the two
        sleep(heard);
        num_asleep_.fetch_sub(1);
    }

private:
#if defined(__linux__)
    static_assert(sizeof(std::atomic<uint32_t>) == 4);

    void sleep(uint32_t heard) { syscall(SYS_futex, &rings_, FUTEX_WAIT_PRIVATE, heard, nullptr, nullptr, 0); }
    void wake() { syscall(SYS_futex, &rings_, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0); }
#else
    void sleep(uint32_t heard) { rings_.wait(heard); }
    void wake() { rings_.notify_all(); }
#endif

    std::atomic<uint32_t> rings_{0};
    std::atomic<int> num_asleep_{0};
};

}  // namespace baton
