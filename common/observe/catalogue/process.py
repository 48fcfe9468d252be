"""gRPC, HTTP, and the process itself."""

from common.observe.catalogue.vocabulary import ALL, E2E_BUCKETS, GATEWAY, WORKERS, counter, gauge, histogram
from common.observe.metric import open_label

RPCS = counter("rpcs_total", "Calls served.", ALL, open_label("method", 48), open_label("code", 17))
HTTP_REQUESTS = counter(
    "http_requests_total", "Exchanges over HTTP.", GATEWAY, open_label("path", 24), open_label("status", 24)
)
HTTP_SECONDS = histogram(
    "http_seconds", "From a request's head to the end of its answer.", GATEWAY, E2E_BUCKETS, open_label("path", 24)
)
LOOP_LAG_SECONDS = gauge(
    "event_loop_lag_seconds", "How late the event loop was at worst since the last scrape.", ALL, unit="seconds"
)
PROCESS_MEMORY_BYTES = gauge("process_memory_bytes", "Resident memory of the process.", ALL, unit="bytes")
PROCESS_CPU = gauge("process_cpu_ratio", "Cores used since the last look: 1 is one core.", ALL, unit="ratio")
PROCESS_FILES = gauge("process_files", "Open files and connections of the process.", ALL)
PROCESS_MAX_FILES = gauge("process_max_files", "How many files and connections it may have open.", ALL)
DEVICE_MEMORY_BYTES = gauge(
    "device_memory_bytes", "Memory used on each device.", WORKERS, open_label("device", 16), unit="bytes"
)
DEVICE_UTILISATION = gauge(
    "device_utilisation_ratio", "Share of time each device computed.", WORKERS, open_label("device", 16), unit="ratio"
)
CERTIFICATE_LEFT_SECONDS = gauge(
    "certificate_left_seconds",
    "Until this process's own certificate, or its authority's, ends; 0: it has. Absent without TLS.",
    ALL,
    open_label("kind", 2),  # own, authority; not closed, as those show 0 before they are known
    unit="seconds",
)
LOG_EVENTS_DROPPED = counter("log_events_dropped_total", "Log lines held back by a once-a-minute rule.", ALL)
LOG_LINES_LOST = counter(
    "log_lines_lost_total", "Log lines that could not be written: a full disk, a reader that has stopped.", ALL
)
BUILD_INFO = gauge(
    "build_info", "Always 1; the labels say what runs.", ALL, open_label("version", 1), open_label("python", 1)
)
CACHE_INFO = gauge(
    "cache_info",
    "Always 1; the labels describe the pages.",
    WORKERS,
    open_label("page_size", 1),
    open_label("num_pages", 1),
    open_label("dtype", 1),
)
