"""`python -m services.router --name NAME [--config FILE] [--set section.key=value]...`"""

import sys

from common.observe.entry import run_service
from services.router.app import run_router

if __name__ == "__main__":
    sys.exit(run_service("router", run_router))
