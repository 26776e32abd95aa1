"""DAZLE (Huynh and Elhamifar, CVPR 2020): MSDN's A→V branch with an attention over the attributes.

B images, R regions, F channels, K attributes, D word-vector size, C classes
"""

from torch import Tensor, nn
from torch.nn import functional

from msdn.train.models.dazle import DazleSettings
from msdn.train.models.parts.attention import AV, attribute_maps, by_region, start_matrices, sum_regions
from msdn.train.models.parts.classes import ClassSpace, class_space_of
from msdn.train.models.parts.problem import Problem
from msdn.train.models.parts.single import SingleScoreModel
from msdn.train.models.parts.word_vectors import start_vectors

_GATE = "attribute_attention"  # W_3
_STARTS = {**AV.starts, _GATE: AV.starts["av_attention"]}


class Dazle(SingleScoreModel):
    """`sigmoid(a_k' W_3 f_k) · psi_k`, where psi is A→V's score and f_k the feature that attribute k attends to.

    Its losses are those of the baseline. Our choice, for lack of published values: it starts as MSDN does, the
    score matrix standard normal and the others zero, so that at first every attribute counts by half.
    """

    def __init__(
        self,
        classes: ClassSpace,
        word_vectors: Tensor,
        channels: int,
        *,
        lambda_cal: float,
        cross_entropy: str,
        calibration: str,
        normalize_vectors: bool,
    ) -> None:
        """Take the classes, raw word vectors [K, D], F, the losses' weight and forms.

        `normalize_vectors` normalises the word vectors again in every forward pass.
        """
        super().__init__(classes, lambda_cal=lambda_cal, cross_entropy=cross_entropy, calibration=calibration)
        self.normalize_vectors = normalize_vectors
        self.word_vectors = nn.Parameter(functional.normalize(word_vectors, dim=1))  # [K, D]
        for name, matrix in start_matrices(_STARTS, word_vectors, channels).items():
            self.register_parameter(name, matrix)  # [D, F]

    def forward(self, regions: Tensor) -> Tensor:
        """Class scores [B, C] from prepared regions [B, R, F]."""
        return self.classes(self.attribute_scores(regions)[AV.name])  # [B, K] -> [B, C]

    def attention(self, regions: Tensor) -> dict[str, Tensor]:
        """The attention β [B, R, K] under "av": it sums to one over regions."""
        return {AV.name: by_region(AV.attention(self._maps(regions)))}

    def attribute_scores(self, regions: Tensor) -> dict[str, Tensor]:
        """`sigmoid(a_k' W_3 f_k) · psi_k` [B, K] under "av"."""
        maps = self._maps(regions)
        attention = AV.attention(maps)  # β, [K, B, R]
        psi = AV.attribute_scores(attention, maps)  # [B, K]
        # a_k' W_3 f_k = Σ_r β a_k' W_3 v_r: attended maps stand in for attended features, which are K times as many
        gates = sum_regions(attention * maps[_GATE]).sigmoid()  # [B, K]
        return {AV.name: gates * psi}

    def _maps(self, regions: Tensor) -> dict[str, Tensor]:
        """`a_k' W v_r` of every matrix, [K, B, R] each."""
        matrices = {name: getattr(self, name) for name in _STARTS}
        return attribute_maps(regions, self.word_vectors, matrices, normalize_vectors=self.normalize_vectors)


def build_dazle(problem: Problem, settings: DazleSettings) -> Dazle:
    """DAZLE for a dataset."""
    return Dazle(
        class_space_of(problem, settings),
        start_vectors(problem, settings),
        problem.channels,
        lambda_cal=settings.lambda_cal,
        cross_entropy=settings.cross_entropy,
        calibration=settings.calibration,
        normalize_vectors=settings.normalize_vectors,
    )
