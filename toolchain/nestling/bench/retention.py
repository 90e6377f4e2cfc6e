"""What subnets keep of the full net's quality, on held-out data, in eager torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nestling.bench.records import Record, missing_record
from nestling.bench.subject import Subject

if TYPE_CHECKING:
    from nestling.elastic import Subnet
    from nestling.training import Recipe

RETENTION_MIN = "retention_min"
RETENTION_SEPARATE = "retention_separate"

SUBNETS = 160

_UNTRAINED = "random weights have no accuracy to keep"


def measure_retention(subject: Subject, *, separate: bool) -> list[Record]:
    """Measure `retention_min` and, if asked, `retention_separate`.

    - `retention_min`: the worst of at least 160 subnets (all named and uniform ones, the rest
      random), its quality over the full net's.
    - `retention_separate`: the worst of the named subnets, its quality over that of the same net
      trained alone for as many steps. Trains all of them anew, which takes minutes.

    Networks that no recipe trained have neither.
    """
    if subject.recipe is None or subject.supernet is None:
        reason = _UNTRAINED if subject.recipe is None else "no supernet beside the bundle"
        return [
            missing_record(metric, "1", subject.model, reason)
            for metric in (RETENTION_MIN, RETENTION_SEPARATE)
        ]
    records = [retention_record(subject)]
    if separate:
        records.append(_separate_record(subject))
    return records


def retention_record(subject: Subject) -> Record:
    """Measure `retention_min`; see `measure_retention`."""
    from nestling.elastic import load
    from nestling.recipes import find_recipe
    from nestling.training import measure_retention as measure

    assert subject.recipe is not None and subject.supernet is not None
    recipe = find_recipe(subject.recipe)
    data = recipe.data()
    found = measure(
        load(subject.supernet),
        data.inputs,
        data.target,
        recipe.metric,
        count=SUBNETS,
        threads=recipe.config.threads,
    )
    return Record(
        RETENTION_MIN,
        found.minimum,
        "1",
        found.full,
        found.minimum,
        None,
        subject.model,
        f"eager torch, {len(found.qualities)} subnets, {len(data.target)} held-out samples; worst: "
        f"{found.worst}; baseline: {recipe.metric_name} of the full net",
    )


def _separate_record(subject: Subject) -> Record:
    from nestling.elastic import load
    from nestling.recipes import find_recipe
    from nestling.training import predict

    assert subject.recipe is not None and subject.supernet is not None
    recipe = find_recipe(subject.recipe)
    data = recipe.data()
    nested = load(subject.supernet)
    ratios: dict[str, tuple[float, float]] = {}
    for name, subnet in nested.space.named.items():
        ours = recipe.metric(predict(nested, subnet, data.inputs), data.target)
        alone = train_alone(recipe, subnet)
        ratios[name] = (ours / alone, alone)
    worst = min(ratios, key=lambda name: ratios[name][0])
    each = ", ".join(f"{name} {ratio:.4f}" for name, (ratio, _) in ratios.items())
    return Record(
        RETENTION_SEPARATE,
        ratios[worst][0],
        "1",
        ratios[worst][1],
        ratios[worst][0],
        None,
        subject.model,
        f"eager torch, {len(data.target)} held-out samples; {each}; "
        f"baseline: {recipe.metric_name} of {worst} trained alone",
    )


def train_alone(recipe: Recipe, subnet: Subnet) -> float:
    """Train one subnet alone, for as many steps as the recipe takes; return its quality."""
    from nestling.training import Alone, Trainer, predict

    steps = recipe.config.steps + (recipe.pretrain.steps if recipe.pretrain else 0)
    data = recipe.data()
    supernet = recipe.build()
    # The settings of plain training, where the recipe has them: the baseline deserves its own.
    config = (recipe.pretrain or recipe.config).replace(steps=steps)
    Trainer(
        supernet,
        config,
        recipe.loss,
        data.train,
        augment=recipe.augment,
        strategy=Alone(subnet),
    ).fit()
    supernet.to("cpu").eval()
    return recipe.metric(predict(supernet, subnet, data.inputs), data.target)
