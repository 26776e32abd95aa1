"""The classes as tensors: attributes, which are seen, and the margin between the two kinds."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from msdn.train.loop.settings import RunSettings
from msdn.train.models.parts.problem import Problem


class ClassSpace(nn.Module):
    """Maps attribute scores to class scores. Nothing here is learned or stored in a checkpoint.

    Attributes:
        attributes: [C, K], L2-normalised per class.
        seen: [C] bool.
        unseen: [C] bool.
        margins: [C], −margin on seen classes and +margin on all others.
    """

    attributes: Tensor
    seen: Tensor
    unseen: Tensor
    margins: Tensor

    def __init__(self, attributes: Tensor, seen: np.ndarray, unseen: np.ndarray, margin: float) -> None:
        """Take normalised attributes (see `normalize_attributes`) and the class numbers of both kinds."""
        super().__init__()
        is_seen = class_mask(seen, len(attributes))
        self.register_buffer("attributes", attributes, persistent=False)
        self.register_buffer("seen", is_seen, persistent=False)
        self.register_buffer("unseen", class_mask(unseen, len(attributes)), persistent=False)
        self.register_buffer("margins", class_margins(is_seen, margin).to(attributes.dtype), persistent=False)

    def forward(self, attribute_scores: Tensor) -> Tensor:
        """Class scores `psi · z_c`, without margin: [B, K] -> [B, C].

        Where nothing is trained they are summed in float64, so that a class's score does not depend on what other
        classes there are.
        """
        if self.training or attribute_scores.device.type == "mps":  # which has no float64
            return attribute_scores @ self.attributes.T
        return (attribute_scores.double() @ self.attributes.double().T).to(attribute_scores.dtype)

    def probe(self) -> None:
        """Append one class for every attribute, which has nothing else: its score is what is said of the attribute."""
        self.attributes = torch.cat(
            [self.attributes, torch.eye(self.attributes.shape[1]).to(self.attributes)]
        )


def class_space_of(problem: Problem, settings: RunSettings) -> ClassSpace:
    """The classes of a problem, in float32."""
    attributes = normalize_attributes(problem.attributes, negative=settings.negative_attributes)
    return ClassSpace(torch.tensor(attributes).float(), problem.seen, problem.unseen, settings.margin)


def normalize_attributes(attributes: np.ndarray, *, negative: str = "keep") -> np.ndarray:
    """Class attributes [C, K], L2-normalised per class; `negative="missing"` sets negative ones to 0 first."""
    values = np.asarray(attributes, dtype=np.float64)
    if negative == "missing":
        values = np.maximum(values, 0.0)
    return functional.normalize(torch.tensor(values), dim=1).numpy()


def class_mask(classes: np.ndarray, count: int) -> Tensor:
    """[C] bool, true for the classes given by number."""
    mask = torch.zeros(count, dtype=torch.bool)
    mask[torch.as_tensor(classes, dtype=torch.int64)] = True
    return mask


def class_margins(seen: Tensor, margin: float) -> Tensor:
    """[C], eq. (11)'s indicator times the margin: −margin where seen, else +margin."""
    return margin * (1.0 - 2.0 * seen.double())
