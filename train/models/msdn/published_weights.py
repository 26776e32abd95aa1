"""Weights that MSDN's authors published: the names in their state dict, and ours."""

import dataclasses

from msdn.train.measure.published_weights import Published, PublishedFile
from msdn.train.models.msdn import MsdnSettings
from msdn.train.models.msdn.network import build_msdn

# The release's names of the parameters, ours, and whether theirs is the transpose of ours.
PARAMETERS = {
    "V": ("word_vectors", False),
    "W_1": ("av_score", False),
    "W_2": ("av_attention", False),
    "W_1_1": ("va_score", True),
    "W_2_1": ("va_attention", False),
}
_UNUSED = ("W_3", "W_3_1", "weight_ce", "prob_prune")  # stored, but no score of the release depends on them


def read_published(file: PublishedFile, settings: MsdnSettings) -> Published:
    """The model that a published file holds, for the file's cache."""
    tensors = file.take(PARAMETERS, _UNUSED)
    k, f = file.cache.annotations.attributes.shape[1], file.cache.shape[3]
    d = tensors["V"].shape[-1] if tensors["V"].dim() else 0
    matrices = dict.fromkeys(("W_1", "W_2", "W_2_1"), (d, f))
    file.check_shapes(tensors, {"V": (k, d), "W_1_1": (f, d), **matrices})
    model = build_msdn(file.problem(tensors["V"]), dataclasses.replace(settings, vectors="given"))
    state = {
        ours: tensors[theirs].T if transposed else tensors[theirs]
        for theirs, (ours, transposed) in PARAMETERS.items()
    }
    model.load_state_dict(state)
    return file.matched(model, tensors, model.classes)
