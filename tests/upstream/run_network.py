"""Run a network class of a deepCR release, from its unpacked source distribution, on a stored batch.

usage: run_network.py SDIST_FOLDER MODULE CLASS IN_CHANNELS HIDDEN WEIGHTS INPUT.npz OUTPUT.npz

Every array of INPUT.npz (C, H, W) is passed through the network; no code of this project is imported.
"""

import sys
import types
from importlib import import_module

import numpy as np
import torch

folder, module, name, in_channels, hidden, weights, source, target = sys.argv[1:]

# upstream's __init__ imports its trainer and what that needs; the networks need none of it
package = types.ModuleType("deepCR")
package.__path__ = [f"{folder}/deepCR"]
sys.modules["deepCR"] = package

network = import_module("deepCR.unet").WrappedModel(
    getattr(import_module(f"deepCR.{module}"), name)(int(in_channels), 1, int(hidden))
)
network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
network.eval()
with torch.no_grad():
    outputs = {key: network(torch.from_numpy(batch)[None])[0, 0].numpy() for key, batch in np.load(source).items()}
np.savez(target, **outputs)
