"""What the figures of a study belong to: features, classes, protocol."""

from msdn.cache import FeatureCache
from msdn.train.loop.batches import validation_division
from msdn.train.loop.settings import RunSettings
from msdn.train.measure.evaluate import facts_of
from msdn.train.measure.metrics import chance_levels
from msdn.train.measure.selection import VALIDATION, describe_selection
from msdn.train.studies.rows import Facts
from msdn.train.studies.study import Study


def study_facts(cache: FeatureCache, study: Study) -> Facts:
    """The facts of a study on the features of a cache; its rows share one protocol."""
    common, settings = facts_of(cache), study.rows[0].settings
    chosen = study.validate_only
    return Facts(
        study=study.name,
        dataset=common["dataset"],
        fingerprint=common["fingerprint"],
        weights=common["weights"],
        image_size=cache.provenance.get("image_size"),
        masked_images=common["masked_images"],
        task=settings.task,
        measured_on=VALIDATION if chosen else "test",
        selection=_validated_only(settings) if chosen else describe_selection(settings, None),
        chance=_validation_chance(cache) if chosen else common["chance"],
        seeds=study.seeds,
    )


def _validated_only(settings: RunSettings) -> str:
    by = "H" if settings.task == "gzsl" else "acc"
    return f"val (epochs chosen by {by} and margin by H on the validation classes; no test image was read)"


def _validation_chance(cache: FeatureCache) -> dict[str, float]:
    problem = validation_division(cache).problem
    chance = chance_levels(len(problem.attributes), len(problem.unseen))
    return {name: 100 * level for name, level in chance.items()}
