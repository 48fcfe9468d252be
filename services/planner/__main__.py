"""`python -m services.planner --name NAME [--config FILE] [--set section.key=value]...`"""

from common.observe.entry import leave, run_service
from services.planner.app import run_planner

if __name__ == "__main__":
    leave(run_service("planner", run_planner))
