"""Warnings, which belong to the process, among threads."""

import threading
import warnings

from deepcr_zoo.errors import ImageWarning, catching_warnings


def test_threads_that_catch_warnings_take_turns():
    shown = warnings.showwarning
    inside, go_on, order = threading.Event(), threading.Event(), []

    def first():
        with catching_warnings():
            warnings.showwarning = lambda *_, **__: None
            inside.set()
            go_on.wait(20)
            order.append("first")

    def second():
        with catching_warnings(record=True) as caught:
            order.append("second")
            warnings.simplefilter("always")
            warnings.warn("seen", ImageWarning, stacklevel=1)
            order.append(str(caught[0].message))

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(20)
    threads[1].start()
    threads[1].join(0.2)
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert order == ["first", "second", "seen"]
    assert warnings.showwarning is shown
