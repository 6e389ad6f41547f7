"""A Dask cluster of SLURM jobs: prints the address for ``--scheduler``, grows and shrinks with the work, ends with Ctrl-C.

pip install dask-jobqueue, then on a login node, in a folder that every node sees: python cluster.py
"""

import threading
from contextlib import suppress

from dask_jobqueue import SLURMCluster

cluster = SLURMCluster(
    cores=1,
    processes=1,  # one thread in each worker
    memory="5GB",  # a visit of three full ACS/WFC frames takes up to 4.5
    walltime="04:00:00",
    local_directory="$TMPDIR",
    job_script_prologue=["export PYTHONSAFEPATH=1"],  # no module of the present folder runs, where data of others may lie
    worker_extra_args=["--lifetime", "225m", "--lifetime-stagger", "10m"],  # they leave in peace before SLURM ends them
    scheduler_options={"dashboard_address": None},
)
cluster.adapt(maximum_jobs=256)
print(cluster.scheduler_address, flush=True)
with suppress(KeyboardInterrupt):
    threading.Event().wait()
cluster.close()
