"""`python -m services.router --name NAME [--config FILE] [--set section.key=value]...`"""

from common.observe.entry import leave, run_service
from services.router.app import run_router

if __name__ == "__main__":
    leave(run_service("router", run_router))
