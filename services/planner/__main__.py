"""`python -m services.planner --name NAME [--config FILE] [--set section.key=value]...`"""

import sys

from common.observe.entry import run_service
from services.planner.app import run_planner

if __name__ == "__main__":
    sys.exit(run_service("planner", run_planner))
