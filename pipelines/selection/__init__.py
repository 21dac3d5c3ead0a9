"""Selection: a recipe decides which images of a dataset of scores stay, and says why of each.

funnel = select("out/scores", "out/duplicates/…", load_config(Recipe, "recipe.yaml"), "out/selections/strict")
"""

from pipelines.selection.expressions import RecipeError
from pipelines.selection.funnel import Funnel, funnel_text
from pipelines.selection.recipe import Recipe
from pipelines.selection.select import read_funnel, select

__all__ = ["Funnel", "Recipe", "RecipeError", "funnel_text", "read_funnel", "select"]
