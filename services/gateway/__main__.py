"""`python -m services.gateway --name NAME [--config FILE] [--set section.key=value]...`"""

from common.observe.entry import leave, run_service
from services.gateway.app import run_gateway

if __name__ == "__main__":
    leave(run_service("gateway", run_gateway))
