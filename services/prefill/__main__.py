"""`python -m services.prefill --name NAME [--config FILE] [--set section.key=value]...`"""

import sys

from common.worker.command import main
from services.prefill.app import ASSEMBLY

if __name__ == "__main__":
    sys.exit(main(ASSEMBLY))
