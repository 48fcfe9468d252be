"""`python -m services.prefill --name NAME [--config FILE] [--set section.key=value]...`"""

from functools import partial

from common.observe.entry import leave, run_service
from common.worker.boot import run_worker
from services.prefill.app import ASSEMBLY

if __name__ == "__main__":
    leave(run_service("prefill", partial(run_worker, assembly=ASSEMBLY)))
