"""The label methods as a whole."""

from typing import get_args

from deepcr_zoo.dataset.labelmethods import LABEL_METHODS, settings_of_others
from deepcr_zoo.dataset.labels import LABELLERS
from deepcr_zoo.zoo.recipe import BuildBlock, Labels


def test_every_label_method_has_facts_code_and_settings():
    assert set(LABELLERS) == set(LABEL_METHODS) == set(get_args(Labels))
    assert all(hasattr(BuildBlock(), method.settings) for method in LABEL_METHODS.values())
    assert settings_of_others("cr_split") == {"drizzle", "dark_paste", "dithers", "given", "truth"}
