"""Recipes: models with their data and a way to train them.

`nestling train NAME` runs one of `RECIPES`. To train a model of your own, write a Python file with
a function `recipe()` and give its path instead of a name, ``nestling train my_recipe.py``::

    import torch
    from torch.utils.data import TensorDataset
    from nestling.elastic import ElasticViT
    from nestling.training import Recipe, RecipeData, TrainConfig

    def build():
        torch.manual_seed(0)            # every process, and every resumed run, must build the same
        return ElasticViT(image_size=32, patch=4, dim=128, depth=6, heads=4, classes=10)

    def data():
        images, labels, held_out, held_out_labels = ...
        return RecipeData(TensorDataset(images, labels), (held_out,), held_out_labels)

    def recipe():
        return Recipe(
            name="mine",
            summary="a small ViT on my data",
            build=build,                # or: nestling.elastic.convert(my_model, widths=(0.5, 1.0))
            data=data,
            loss=torch.nn.functional.cross_entropy,
            config=TrainConfig(strategy="sandwich", steps=2000),
            pretrain=TrainConfig(strategy="full", steps=1000),  # or None, see there
        )
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

from nestling.errors import TrainError
from nestling.recipes import digits
from nestling.training import Recipe

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe for recipe in (digits.VIT_RECIPE, digits.CNN_RECIPE)
}


def find_recipe(name: str) -> Recipe:
    """Return a recipe by its name in `RECIPES`, or from a Python file with a function `recipe()`.

    The file is run: give only files that you trust.

    Raises:
        TrainError: There is no such recipe or file, or the file has no such function, or fails.
    """
    if name in RECIPES:
        return RECIPES[name]
    path = Path(name)
    if path.suffix != ".py":
        raise TrainError(
            f"there is no recipe {name!r}",
            expected=", ".join(RECIPES),
            hint="give one of these, or the path of a Python file with a function recipe()",
        )
    if not path.is_file():
        raise TrainError(f"there is no file {name}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise TrainError(f"{name} cannot be run: {type(error).__name__}: {error}") from error
    make: Callable[[], object] | None = getattr(module, "recipe", None)
    if not callable(make):
        raise TrainError(f"{name} has no function recipe()")
    try:
        recipe = make()
    except Exception as error:
        raise TrainError(f"recipe() in {name} failed: {type(error).__name__}: {error}") from error
    if not isinstance(recipe, Recipe):
        raise TrainError(f"recipe() in {name} must return a Recipe", actual=type(recipe).__name__)
    return recipe
