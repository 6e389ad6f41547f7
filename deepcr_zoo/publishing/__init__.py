"""Publishing: from a run to the Hub and into the registry.

Gates, upload, read-back, registry entries, checking and conversion of upstream files.

Imports: bench and the rooms below it, never training. Imported by the rooms above.
Promise: nothing that fails a gate is published, and a published version never changes;
only `convert` reads upstream's .pth files.
"""
