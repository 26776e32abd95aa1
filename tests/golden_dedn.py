"""Golden vectors of DEDN, replayed through the class that `msdn train` uses."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from msdn.train.models.dedn.network import Dedn
from msdn.train.models.dedn.published_weights import parameter_names
from msdn.train.models.parts.classes import ClassSpace, normalize_attributes

LOSSES = ("ce_coarse", "cal_coarse", "ce_fine", "cal_fine", "align_coarse", "align_fine", "distill")
# CUB and AWA2 differ in what no array of the files tells.
TRUE_CLASS_SHIFTS = {312: 3.0, 85: 2.0}
DISTANCE_EPSILONS = {312: 0.0, 85: 1e-9}


def replay_dedn(golden: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Everything that a golden file of DEDN holds of outputs, computed by our class."""
    model = build_dedn(golden)
    regions = torch.tensor(golden["features_nchw"]).flatten(2).transpose(1, 2)  # [B, F, h, w] -> [B, R, F]
    scores = model(model.prepare(regions, torch.float64))
    losses = model.losses(scores, torch.tensor(golden["labels"]))
    losses["loss"].backward()
    outputs: dict[str, Tensor] = {"loss_total": losses["loss"]}
    outputs |= {f"loss_{name}": losses[name] for name in LOSSES}
    for mode, both in (("train", model.training_scores(scores)), ("eval", model.test_scores(scores))):
        for expert, class_scores in zip(("coarse", "fine"), both, strict=True):
            outputs[f"{mode}_scores_{expert}_with_margin"] = class_scores + model.classes.margins
    for theirs, parameter in parameters_of(model):
        assert parameter.grad is not None
        outputs[f"grad__{theirs}"] = parameter.grad
    return {name: value.detach().numpy() for name, value in outputs.items()}


def build_dedn(golden: Mapping[str, np.ndarray]) -> Dedn:
    """The model of a golden file in float64, with the file's groups and parameters."""
    attributes = normalize_attributes(golden["att_raw"], negative="missing")
    count, (_, channels, height, width) = attributes.shape[1], golden["features_nchw"].shape
    model = Dedn(
        ClassSpace(torch.from_numpy(attributes), golden["seen"], golden["unseen"], margin=1.0),
        torch.tensor(golden["w2v_raw"]),
        channels,
        height * width,
        groups_of(golden),
        lambda_cal=float(golden["lambda_cal"]),
        lambda_experts=float(golden["p_ce"]),
        lambda_align=float(golden["p_crc"]),
        true_class_shift=TRUE_CLASS_SHIFTS[count],
        region_mix=float(golden["c_mix"]),
        coarse_mix=0.5,
        score_rank=0,
        distance_epsilon=DISTANCE_EPSILONS[count],
    )
    with torch.no_grad():
        for theirs, parameter in parameters_of(model):
            parameter.copy_(torch.tensor(golden[f"param__{theirs}"]))
    return model


def groups_of(golden: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The numbers of each group's attributes."""
    indicator = golden["indicator"]
    return [np.flatnonzero(indicator == group) for group in range(indicator.max() + 1)]


def parameters_of(model: Dedn) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The published name of every parameter, and the parameter."""
    for theirs, ours in parameter_names(len(model.fine)).items():
        yield theirs, model.get_parameter(ours)
