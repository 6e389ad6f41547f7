"""Fork while another thread imports a module for the first time, or in every way after a load and a use.

Run as ``python -m tests.models.forks ENGINE EXPOSURE MODULE|quiet|busy``.
"""

import logging
import multiprocessing
import os
import sys
import threading
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np

import deepcr_zoo
from deepcr_zoo.models.forks import COMPUTATIONS
from tests.registries import SMALL
from tests.scenes import star_field

FORK = multiprocessing.get_context("fork")
IMAGES = [star_field((200, 160), seed)[0] for seed in range(2)]


def load():
    return deepcr_zoo.load(SMALL, "cpu", engine=sys.argv[1])


def masks(number):
    return MODEL.mask(IMAGES[number])


def masks_of_a_new_model(number):
    return load().mask(IMAGES[number])


def cleaned(number):
    return deepcr_zoo.clean_file(sys.argv[2], model=SMALL, engine=sys.argv[1], output_dir=str(number), overwrite=True).pixels


def in_a_fork(work, number):
    """What `work` gives in a child that os.fork starts."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(writing, np.packbits(work(number)).tobytes())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:  # else an error would go on as a second parent
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    os.close(writing)
    with open(reading, "rb") as pipe:
        return np.unpackbits(np.frombuffer(pipe.read(), np.uint8), count=IMAGES[number].size).reshape(IMAGES[number].shape)


def check(expected):
    with FORK.Pool(2) as pool:
        np.testing.assert_array_equal(pool.map(masks, range(2)), expected)
    with ProcessPoolExecutor(2, FORK) as pool:
        np.testing.assert_array_equal(list(pool.map(masks_of_a_new_model, range(2))), expected)
    for work in (masks, masks_of_a_new_model):
        np.testing.assert_array_equal(in_a_fork(work, 0), expected[0])


def work_until(stop):
    while not stop.is_set():
        MODEL.mask(IMAGES[0][:100, :100])
        load()


def check_locks():
    """Fork while another thread computes, which then starts a pool and asks for a log."""
    import torch

    from deepcr_zoo.models.isolation import isolated

    def compute():
        with isolated(torch.device("cpu")):
            computing.set()
            while not COMPUTATIONS._forks:
                time.sleep(0.001)
            time.sleep(0.1)  # so that a fork could take further locks
            logging.getLogger("new in this thread")
            with ThreadPoolExecutor(1) as pool:
                pool.submit(int).result()

    computing = threading.Event()
    thread = threading.Thread(target=compute)
    thread.start()
    computing.wait()
    np.testing.assert_array_equal(in_a_fork(lambda number: np.zeros(IMAGES[number].shape, bool), 0), 0)
    thread.join()
    print("both ended")


def pixels(number):
    return np.array([cleaned(number)], np.uint8)


def wait_for_the_end_of(thread):
    """Wait until the system has no such thread: as it ends, after Python says so, MKL takes a lock to free its buffers."""
    thread.join()
    while os.path.exists(f"/proc/self/task/{thread.native_id}"):
        time.sleep(0.001)


def check_during_the_import_of(module):
    """Fork while another thread holds the locks of an import, also of modules that wait for it."""
    work = pixels if "exposures" in module else masks_of_a_new_model
    found = []
    thread = threading.Thread(target=lambda: found.append(work(0)))
    thread.start()
    while module not in sys.modules:  # it is there from the start of its import
        time.sleep(0.0001)
    in_child = in_a_fork(work, 1)
    wait_for_the_end_of(thread)
    np.testing.assert_array_equal(in_child, in_a_fork(work, 1))
    np.testing.assert_array_equal(found[0], work(0))


def check_after_a_load(busy):
    global MODEL
    MODEL = load()
    expected = [MODEL.mask(image) for image in IMAGES]
    check(expected)
    with FORK.Pool(2) as pool:
        assert pool.map(cleaned, range(2)) == [cleaned(2)] * 2
    if busy:
        stop = threading.Event()
        thread = threading.Thread(target=work_until, args=(stop,))
        thread.start()
        check(expected)
        stop.set()
        thread.join()
    np.testing.assert_array_equal(MODEL.mask(IMAGES[0]), expected[0])


if __name__ == "__main__":
    if sys.argv[3] in ("quiet", "busy"):
        import torch

        torch.set_num_threads(2)
        check_after_a_load(sys.argv[3] == "busy")
        assert torch.get_num_threads() == 2
    else:
        check_during_the_import_of(sys.argv[3])
    print("the same masks")
