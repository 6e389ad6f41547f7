"""From a run, or a model of the registry, to the Hub and into the lock."""
