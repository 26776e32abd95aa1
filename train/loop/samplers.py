"""Which training images a step sees. Each sampler owns its generator, whose state a checkpoint keeps."""

import json
from abc import ABC, abstractmethod

import numpy as np


class Sampler(ABC):
    """Draws the rows of one step after another; how the published code does it, not epochs of a permutation."""

    def __init__(self, rows: np.ndarray, labels: np.ndarray, batch_size: int, seed: int) -> None:
        """Take the training rows, the label of each, the batch size and the generator's seed."""
        self.rows = rows
        self.labels = labels
        self.batch_size = batch_size
        self._rng = np.random.Generator(np.random.PCG64(seed))

    def steps_in(self, epoch: int) -> int:
        """Steps of an epoch, from 1: E epochs have (images · E) // batch in all, the published number; at least 1."""
        images, batch = len(self.rows), self.batch_size
        return images * epoch // batch - images * (epoch - 1) // batch if images >= batch else 1

    @property
    def state(self) -> str:
        """The generator's state; assigning it back repeats the draws that followed."""
        return json.dumps(self._rng.bit_generator.state)

    @state.setter
    def state(self, state: str) -> None:
        self._rng.bit_generator.state = json.loads(state)

    @abstractmethod
    def draw(self) -> np.ndarray:
        """Draw the rows of one step."""


class RandomSampler(Sampler):
    """A fresh random batch of distinct images at every step."""

    def draw(self) -> np.ndarray:
        """Draw `batch_size` rows, or all where there are fewer."""
        return self._rng.choice(self.rows, min(self.batch_size, len(self.rows)), replace=False)


class BalancedSampler(Sampler):
    """Distinct classes, then equally many images of each, with replacement."""

    def __init__(self, rows: np.ndarray, labels: np.ndarray, batch_size: int, seed: int) -> None:
        """Group the rows by class."""
        super().__init__(rows, labels, batch_size, seed)
        self._rows_of_class = [rows[labels == label] for label in np.unique(labels)]

    def draw(self) -> np.ndarray:
        """Draw min(S, batch) of the S classes, then max(batch // S, 1) images of each."""
        classes = len(self._rows_of_class)
        chosen = self._rng.choice(classes, min(classes, self.batch_size), replace=False)
        each = max(self.batch_size // classes, 1)
        return np.concatenate([self._rng.choice(self._rows_of_class[label], each) for label in chosen])


SAMPLERS: dict[str, type[Sampler]] = {"random": RandomSampler, "balanced": BalancedSampler}
