"""``python -m deepcr_zoo`` is the same as ``deepcr-zoo``; ``torchrun`` starts training this way."""

import os

from deepcr_zoo.cli.main import main

if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
    from deepcr_zoo.training.distributed import run_and_exit

    run_and_exit(main)
else:
    main()
