"""The command ``deepcr-zoo``, also as ``python -m deepcr_zoo``; ``torchrun`` starts training this way."""

import os
import sys


def run() -> None:
    """Run the command line; Ctrl-C ends it without a traceback also while its modules are imported."""
    try:
        from deepcr_zoo.cli.main import main
    except KeyboardInterrupt:
        sys.exit(130)  # `batch.INTERRUPTED`, which may not be there yet
    main()


if __name__ == "__main__":
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        from deepcr_zoo.training.distributed import run_and_exit

        run_and_exit(run)
    else:
        run()
