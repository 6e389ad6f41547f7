"""Publishing: from a run to the Hub and into the registry, and the checks of everything in it.

`workflow` goes from the gates to the registry entry; `checking` is ``deepcr-zoo check``. Nothing that fails a gate is
published, a published version never changes, and only `convert` reads upstream's .pth files.

May import bench and the rooms below it, never training. Promises no names: its commands are the interface.
"""
