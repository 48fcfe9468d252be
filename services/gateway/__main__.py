"""`python -m services.gateway --name NAME [--config FILE] [--set section.key=value]...`"""

from common.observe.early import hush_libraries, leave_while_early
from common.observe.garbage import hold_collector

if __name__ == "__main__":
    leave_while_early()  # what follows takes seconds to import
    hush_libraries()
    hold_collector()
    from common.observe.entry import leave, run_service
    from services.gateway.app import run_gateway

    leave(run_service("gateway", run_gateway))
