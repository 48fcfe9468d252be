"""`python -m services.gateway --name NAME [--config FILE] [--set section.key=value]...`"""

import sys

from common.observe.entry import run_service
from services.gateway.app import run_gateway

if __name__ == "__main__":
    sys.exit(run_service("gateway", run_gateway))
