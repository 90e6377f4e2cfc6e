"""`nestling train`: run a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

STRATEGIES = ("sorted", "sandwich", "progressive")
AMP = ("none", "bf16", "fp16")


@click.command("train")
@click.argument("recipe", required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the checkpoint, the log and the report; default: build/train/RECIPE.",
)
@click.option("--list", "list_recipes", is_flag=True, help="List the built-in recipes.")
@click.option("--strategy", type=click.Choice(STRATEGIES), help="How subnets are drawn.")
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser steps.")
@click.option("--subnets-per-step", type=click.IntRange(min=1), help="Subnets in each step.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="TOML file with training options; those given here win.",
)
@click.option("--batch-size", type=click.IntRange(min=1), help="Samples in each step.")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), help="Peak learning rate.")
@click.option("--seed", type=int, help="Of everything that is drawn.")
@click.option("--amp", type=click.Choice(AMP), help="Mixed precision.")
@click.option("--device", help="cpu or cuda; default: what the recipe says.")
@click.option("--checkpoint-every", type=click.IntRange(min=1), help="Steps between checkpoints.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of torch.")
@click.option("--resume", is_flag=True, help="Go on where an interrupted run stopped, exactly.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def command(
    recipe: str | None,
    output: Path | None,
    list_recipes: bool,
    config_file: Path | None,
    subnets_per_step: int | None,
    resume: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Train a supernet so that every subnet is useful.

    RECIPE is a name (see --list) or a Python file that defines a recipe. Leaves OUTPUT/supernet.pt,
    which
    `nestling export` takes. More than one process:

        torchrun --nproc-per-node 2 -m nestling.cli train digits-vit
    """
    from nestling import recipes

    if list_recipes:
        _print_recipes(recipes.RECIPES)
        return
    if recipe is None:
        raise click.UsageError("name a recipe, or use --list")
    from nestling.training import load_config, run_recipe

    found = recipes.find_recipe(recipe)
    config = load_config(config_file, found.config) if config_file else found.config
    config = config.replace(**{name: v for name, v in settings.items() if v is not None})
    if subnets_per_step is not None:
        options = {**config.strategy_options, "subnets_per_step": subnets_per_step}
        config = config.replace(strategy_options=options)
    folder = output or Path("build", "train", found.name)
    result = run_recipe(
        found,
        config,
        folder,
        resume=resume,
        progress=not quiet,
    )
    if result.path is not None and _is_first_process():
        _print_result(result)


def _is_first_process() -> bool:
    import os

    return os.environ.get("RANK", "0") == "0"


def _print_recipes(recipes: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("recipe", "what it trains", header_style="bold")
    for name, recipe in recipes.items():
        table.add_row(name, recipe.summary)
    Console().print(table)


def _print_result(result: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("path", "parameters", "quality", header_style="bold")
    for name, quality in result.quality.items():
        subnet = result.supernet.space.named[name]
        table.add_row(name, f"{result.supernet.count_parameters(subnet):,}", f"{quality:.4f}")
    console = Console()
    console.print(table)
    console.print(f"supernet: {result.path}")
