"""From exposures to a training set: visits, labels by AstroDrizzle, stamps, splits and the files that hold them."""
