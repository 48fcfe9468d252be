"""`python -m services.router --name NAME [--config FILE] [--set section.key=value]...`"""

from common.observe.early import hush_libraries, leave_while_early
from common.observe.garbage import hold_collector

if __name__ == "__main__":
    leave_while_early()  # what follows takes seconds to import
    hush_libraries()
    hold_collector()
    from common.observe.entry import leave, run_service
    from services.router.app import run_router

    leave(run_service("router", run_router))
