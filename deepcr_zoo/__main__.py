"""``python -m deepcr_zoo`` is the same as ``deepcr-zoo``."""

from deepcr_zoo.cli import main

main()
