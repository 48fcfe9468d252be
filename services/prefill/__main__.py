"""`python -m services.prefill --name NAME [--config FILE] [--set section.key=value]...`"""

from common.observe.early import hush_libraries, leave_while_early
from common.observe.garbage import hold_collector

if __name__ == "__main__":
    leave_while_early()  # what follows takes seconds to import
    hush_libraries()
    hold_collector()
    from functools import partial

    from common.observe.entry import leave, run_service
    from common.worker.boot import run_worker
    from services.prefill.app import ASSEMBLY

    leave(run_service("prefill", partial(run_worker, assembly=ASSEMBLY)))
