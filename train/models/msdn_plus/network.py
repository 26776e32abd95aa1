"""MSDN++ (2026), a reconstruction: MSDN whose attention is trained to beat a counterfactual one.

The method's text was not available; the causal term follows counterfactual attention learning (Rao et al., ICCV 2021).

B images, R regions, K attributes, C classes
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from msdn.train.models.msdn.network import Msdn, msdn_arguments, sum_terms
from msdn.train.models.msdn_plus import MsdnPlusSettings
from msdn.train.models.parts.attention import OVER_IMAGES, Branch, Maps
from msdn.train.models.parts.problem import Problem

Counterfactual = Callable[[Tensor, Tensor, int], Tensor]


class MsdnPlus(Msdn):
    """MSDN with the effect of each attention on its branch's scores: `Y = s(attention) − s(counterfactual)`.

    While training, a random counterfactual is drawn from torch's generator. Else its mean stands in for it, which gives
    the mean effect, for scores are linear in the attention: what a trained model shows is the same every time.
    """

    def __init__(
        self, *, lambda_causal: float, counterfactual: str, causal_branches: str, **arguments: Any
    ) -> None:
        """Take what `Msdn` takes, and what the causal terms need.

        Args:
            lambda_causal: weight of the causal terms.
            counterfactual: what replaces the attention: "random", "uniform", "reversed" or "shuffle".
            causal_branches: the branches with a causal term: "both" (all there are), "av" or "va".
            arguments: those of `Msdn`.
        """
        super().__init__(**arguments)
        self.lambda_causal, self.counterfactual = lambda_causal, counterfactual
        self.causal = tuple(b for b in self.branches if causal_branches in ("both", b.name))

    def forward(self, regions: Tensor) -> dict[str, Tensor]:
        """Class scores [B, C] of each branch by its name, and its effect [B, C] under "effect_" and its name."""
        maps = self._maps(regions)
        scores = {}
        for branch in self.branches:
            attention = branch.attention(maps)
            scores[branch.name] = self.classes(branch.attribute_scores(attention, maps))
            if branch in self.causal:
                instead = self._replace(branch, attention, maps)
                other = self.classes(branch.attribute_scores(instead, maps))
                scores[f"effect_{branch.name}"] = scores[branch.name] - other
        return scores

    def losses(self, scores: dict[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """MSDN's terms, the cross-entropy of each effect over the branch's classes, and its mean on the true class."""
        terms = super().losses(scores, labels)
        for branch in self.causal:
            effect = scores[f"effect_{branch.name}"]
            terms[f"causal_{branch.name}"] = self.cross_entropy(effect, labels, self.classes)
            true_class = effect.detach().gather(1, labels.unsqueeze(1))  # [B, 1]
            terms[f"effect_{branch.name}"] = true_class.mean()  # no loss: shown while training
        return {**terms, "loss": terms["loss"] + self.lambda_causal * sum_terms(terms, "causal")}

    def _replace(self, branch: Branch, attention: Tensor, maps: Maps) -> Tensor:
        """The counterfactual attention of a branch: [K, B, R], or what broadcasts to it."""
        replace = COUNTERFACTUALS[self.counterfactual]
        if not self.training:
            replace = _MEANS.get(self.counterfactual, replace)
        return replace(branch.logits(maps), attention, branch.over)


def random_attention(logits: Tensor, attention: Tensor, over: int) -> Tensor:
    """Uniform between 0 and 2/N, so that N of them sum to one on the mean."""
    return torch.rand_like(logits) * (2 / logits.shape[over])


def uniform_attention(logits: Tensor, attention: Tensor, over: int) -> Tensor:
    """1/N everywhere, as one number."""
    return logits.new_full((), 1 / logits.shape[over])


def reversed_attention(logits: Tensor, attention: Tensor, over: int) -> Tensor:
    """Softmax of the negated logits: what mattered most now matters least."""
    return (-logits).softmax(dim=over)


def shuffled_attention(logits: Tensor, attention: Tensor, over: int) -> Tensor:
    """Another image's attention: permuted over the batch. An image alone keeps its own."""
    others = torch.randperm(attention.shape[OVER_IMAGES], device=attention.device)
    return attention.index_select(OVER_IMAGES, others)


def mean_attention(logits: Tensor, attention: Tensor, over: int) -> Tensor:
    """The batch's mean attention, which is the mean of all permutations."""
    return attention.mean(dim=OVER_IMAGES, keepdim=True)  # [K, 1, R]


COUNTERFACTUALS: dict[str, Counterfactual] = {
    "random": random_attention,
    "uniform": uniform_attention,
    "reversed": reversed_attention,
    "shuffle": shuffled_attention,
}
_MEANS: dict[str, Counterfactual] = {"random": uniform_attention, "shuffle": mean_attention}


def build_msdn_plus(problem: Problem, settings: MsdnPlusSettings) -> MsdnPlus:
    """MSDN++ for a dataset."""
    return MsdnPlus(
        lambda_causal=settings.lambda_causal,
        counterfactual=settings.counterfactual,
        causal_branches=settings.causal_branches,
        **msdn_arguments(problem, settings),
    )
