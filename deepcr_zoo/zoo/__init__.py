"""The zoo: from a model's name to verified bytes.

Names, registry, cards, recipes, instruments, sources, registry updates and the Hub client (`hub`).

Imports: flat files only. Every other room may import from here.
Promise: nothing here imports torch, astropy or scipy, so ``list`` and ``pull`` are quick. Only `hub` imports
huggingface_hub.
"""

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cards": ["Card", "read_card"],
        "recipe": ["Recipe"],
        "recipefiles": ["find_recipe", "read_recipe"],
        "registries": ["RegistryPlace", "default_registry"],
        "registry": ["Registry", "ResolvedModel"],
    },
)

if TYPE_CHECKING:
    from deepcr_zoo.zoo.cards import Card as Card
    from deepcr_zoo.zoo.cards import read_card as read_card
    from deepcr_zoo.zoo.recipe import Recipe as Recipe
    from deepcr_zoo.zoo.recipefiles import find_recipe as find_recipe
    from deepcr_zoo.zoo.recipefiles import read_recipe as read_recipe
    from deepcr_zoo.zoo.registries import RegistryPlace as RegistryPlace
    from deepcr_zoo.zoo.registries import default_registry as default_registry
    from deepcr_zoo.zoo.registry import Registry as Registry
    from deepcr_zoo.zoo.registry import ResolvedModel as ResolvedModel
