"""Replay golden vectors of the released MSDN and DEDN through the classes that `msdn train` uses.

    python tests/replay_golden.py FILE.npz...

Prints the largest absolute error of every array, in float64; exits 1 if any is above 1e-10.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from golden_dedn import replay_dedn
from torch import Tensor

from msdn.train.models.msdn.network import Msdn
from msdn.train.models.msdn.published_weights import PARAMETERS
from msdn.train.models.parts.classes import ClassSpace, normalize_attributes
from msdn.train.models.registry import settings_of

TOLERANCE = 1e-10
LOSSES = ("ce_av", "cal_av", "ce_va", "cal_va", "distill")
Arrays = Mapping[str, np.ndarray]


def build_model(golden: Arrays) -> Msdn:
    """The model of a golden file in float64, with the file's parameters."""
    attributes = normalize_attributes(golden["att_raw"], negative="missing")
    classes = ClassSpace(torch.from_numpy(attributes), golden["seen"], golden["unseen"], margin=1.0)
    released = settings_of()
    model = Msdn(
        classes,
        torch.tensor(golden["w2v_raw"]),
        golden["features_nchw"].shape[1],
        lambda_cal=float(golden["lambda_cal"]),
        lambda_distill=float(golden["lambda_distill"]),
        alpha=released.alpha,
        branches=released.branches,
        va_form=released.va_form,
        cross_entropy=released.cross_entropy,
        calibration=released.calibration,
        distillation=released.distillation,
        distill_parts=released.distill_parts,
        normalize_vectors=bool(golden["normalize_attribute_vectors"]),
    )
    with torch.no_grad():
        for theirs, (ours, transposed) in PARAMETERS.items():
            value = torch.tensor(golden[theirs])
            getattr(model, ours).copy_(value.T if transposed else value)
    return model


def replay(golden: Arrays) -> dict[str, np.ndarray]:
    """Everything that a golden file holds of outputs, computed by our classes."""
    return replay_dedn(golden) if "indicator" in golden else replay_msdn(golden)


def replay_msdn(golden: Arrays) -> dict[str, np.ndarray]:
    """The outputs of a golden file of MSDN."""
    model = build_model(golden)
    regions = torch.tensor(golden["features_nchw"]).flatten(2).transpose(1, 2)  # [B, F, h, w] -> [B, R, F]
    regions = model.prepare(regions, torch.float64)
    scores = model(regions)
    losses = model.losses(scores, torch.tensor(golden["labels"]))
    losses["loss"].backward()
    outputs: dict[str, Tensor] = {
        "scores_av_with_margin": scores["av"] + model.classes.margins,
        "scores_va_with_margin": scores["va"] + model.classes.margins,
        "attention_av": model.attention(regions)["av"].transpose(1, 2),
        "loss_total": losses["loss"],
        **{f"loss_{name}": losses[name] for name in LOSSES},
    }
    for theirs, (ours, transposed) in PARAMETERS.items():
        gradient = getattr(model, ours).grad
        outputs[f"grad_{theirs}"] = gradient.T if transposed else gradient
    return {name: value.detach().numpy() for name, value in outputs.items()}


def largest_errors(golden: Arrays) -> dict[str, float]:
    """The largest absolute error of each output; infinite where shapes differ or values are not finite."""
    return {name: _largest_error(value, golden[name]) for name, value in replay(golden).items()}


def _largest_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    errors = np.abs(ours - theirs)
    return float(errors.max(initial=0.0)) if np.isfinite(errors).all() else float("inf")


def main(paths: Sequence[str]) -> int:
    """Replay the files and print what they show."""
    if not paths:
        print("usage: python tests/replay_golden.py FILE.npz...", file=sys.stderr)
        return 2
    worst = 0.0
    for path in paths:
        try:
            with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                errors = largest_errors(dict(file))
        except (OSError, ValueError, KeyError, RuntimeError, IndexError, BadZipFile) as error:
            print(f"{path}: no golden file of the released MSDN or DEDN: {error}", file=sys.stderr)
            return 2
        print(path)
        for name, size in errors.items():
            print(f"  {name:<32}{size:.1e}{'' if size <= TOLERANCE else '  TOO LARGE'}")
        worst = max(worst, *errors.values())
    print(f"largest error {worst:.1e}, {'within' if worst <= TOLERANCE else 'ABOVE'} {TOLERANCE:.0e}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
