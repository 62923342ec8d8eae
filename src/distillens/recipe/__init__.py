"""The typed recipe: `base` is the recipe itself, `builtin/` the ones that come along, the rest what reading one needs."""

from distillens.recipe.base import Recipe, builtin_recipes, folder_name

__all__ = ["Recipe", "builtin_recipes", "folder_name"]
