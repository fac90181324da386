"""`cds-service` with leases of RELIABILITY_LEASE seconds: a short run cannot wait for whole ones.

No operator needs another lease, so that the service has no setting for it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from datetime import timedelta

from cds_service.cli import main
from cds_service.delivery import dispatch, worker

# Not only where it is the main program: the processes of `serve --workers` import it, too.
# https://docs.python.org/3/library/multiprocessing.html#the-spawn-and-forkserver-start-methods
for module in (worker, dispatch):
    vars(module)["LEASE"] = timedelta(seconds=float(os.environ["RELIABILITY_LEASE"]))


def _end_with(parent: int) -> None:
    """Not to outlive a run that is killed itself: it is in a process group of its own."""
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    sys.argv[0] = "cds-service"
    main()
