// What has to happen once per process before an operator of this variant may run.
#include "export.h"

#if defined(__AMX_TILE__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

namespace {
constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
constexpr int kTileData = 18;               // XFEATURE_XTILEDATA
}  // namespace
#endif

// 0, or 1 when the kernel does not let this process use the tile registers.
EXPORT int64_t baton_start() {
#if defined(__AMX_TILE__) && defined(__linux__)
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0 ? 0 : 1;
#else
    return 0;
#endif
}
