"""What a Plumage bird is: attributes and their word vectors, and the 48 invented classes in one or two colour forms."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

COLORS = ("red", "yellow", "green", "blue", "purple", "brown", "black", "white")
PATTERNS = ("solid", "spotted", "striped")
PARTS = ("bill", "head", "back", "breast", "belly", "wing", "tail")
PATTERNED_PARTS = ("breast", "wing", "tail")

GROUPS: dict[str, tuple[str, ...]] = {
    **{f"{part} color": COLORS for part in PARTS},
    **{f"{part} pattern": PATTERNS for part in PATTERNED_PARTS},
    "bill shape": ("hooked", "cone", "dagger", "spatulate"),
    "tail shape": ("rounded", "forked", "pointed"),
    "size": ("small", "medium", "large"),
}

VECTOR_SIZE = 100
NAMES_IN_ORDER = """
Amber_Throated_Pipwing Ashen_Marsh_Tattler Banded_Hill_Finchlet Beacon_Warbler Bramble_Whistler
Calico_Tanager Cinder_Jay Clover_Bunting Copper_Lantern_Bird Crested_Dune_Lark Dappled_Thornbill
Dusk_Oriole Elder_Grove_Thrush Ember_Kinglet Fable_Parakeet Fenland_Piper Festival_Barbet Fjord_Starling
Gale_Swallow Garnet_Chat Gloaming_Vireo Harlequin_Grosbeak Heath_Wagtail Hollow_Reed_Wren
Indigo_Mantle_Cuckoo Juniper_Waxwing Kelp_Shore_Pitta Lacquer_Lory Lichen_Flycatcher Lowland_Motmot
Masked_Orchard_Roller Meadow_Trogon Mistral_Bee_Eater Moonlit_Nightjar Mosaic_Broadbill Nettle_Siskin
Opal_Sunbird Painted_Puffback Quarry_Redstart Quince_Hoopoe Rambling_Cotinga Russet_Fantail
Saffron_Babbler Slate_Ridge_Shrike Tidepool_Kingfisher Umber_Honeyeater Velvet_Manakin Willow_Turaco
"""
BIRD_NAMES = tuple(NAMES_IN_ORDER.split())
CLASS_COUNT = len(BIRD_NAMES)
ROLE_SIZES = {"train": 26, "val": 10, "unseen": 12}
CLASS_SEED = 1
MOST_SHARED = 4  # groups of 13 in which two classes may wear the same value
TWO_FORM_SHARE = 2  # one class in this many comes in two colour forms

Form = dict[str, str]


def list_attributes() -> list[str]:
    """Name every attribute in the order of the columns of all tables, such as `wing color: red`."""
    return [f"{group}: {value}" for group, values in GROUPS.items() for value in values]


def make_word_vector(word: str) -> np.ndarray:
    """Draw the vector of one word from a seed that depends on nothing but its letters."""
    generator = np.random.RandomState(zlib.crc32(word.encode()))
    return generator.randint(-1000, 1001, VECTOR_SIZE).astype(np.float64) / 1000


def make_attribute_vectors() -> np.ndarray:
    """Sum the vectors of each name's words, so that values share meaning across parts: float32 [K, D]."""
    names = [name.replace(":", "").split() for name in list_attributes()]
    return np.array([sum(make_word_vector(word) for word in words) for words in names], dtype=np.float32)


@dataclass(frozen=True)
class BirdClass:
    """One species: its role in the splits, and its one or two colour forms with their shares in percent."""

    name: str
    role: str
    forms: tuple[Form, ...]
    shares: tuple[int, ...]

    def pick_form(self, percentile: int) -> Form:
        """Give the form that a draw of 0..99 falls on."""
        return self.forms[0] if percentile < self.shares[0] else self.forms[-1]


def shuffle(values: Iterable, generator: np.random.RandomState) -> list:
    """Shuffle with nothing but `randint`, whose stream NumPy keeps frozen."""
    values = list(values)
    for last in range(len(values) - 1, 0, -1):
        other = int(generator.randint(0, last + 1))
        values[last], values[other] = values[other], values[last]
    return values


def deal_values(size: int, generator: np.random.RandomState) -> np.ndarray:
    """Deal every group's values to `size` classes as evenly as they go: value numbers [size, groups]."""
    columns = []
    for values in GROUPS.values():
        rounds = [shuffle(range(len(values)), generator) for _ in range(size // len(values) + 1)]
        columns.append(shuffle([number for one in rounds for number in one][:size], generator))
    return np.array(columns, dtype=np.int8).T


def count_shared(forms: np.ndarray) -> np.ndarray:
    """Count, for every two forms, the groups in which they wear the same value: int [C, C], 0 on the diagonal."""
    shared = (forms[:, None] == forms).sum(axis=2)
    np.fill_diagonal(shared, 0)
    return shared


def measure_likeness(shared: np.ndarray) -> int:
    """Measure by how much pairs are more alike than allowed; 0 is well."""
    return int((np.maximum(shared - MOST_SHARED, 0) ** 2).sum())


def spread_forms(forms: np.ndarray, roles: list[str], generator: np.random.RandomState) -> np.ndarray:
    """Swap values inside roles, so that each role keeps its mix, until no two forms are too alike."""
    shared = count_shared(forms)
    while measure_likeness(shared):
        crowded = np.argwhere(shared == shared.max())
        one = int(crowded[int(generator.randint(0, len(crowded)))][0])
        other, group = (int(generator.randint(0, size)) for size in forms.shape)
        if roles[one] != roles[other]:
            continue
        swapped = forms.copy()
        swapped[[one, other], group] = forms[[other, one], group]
        now_shared = count_shared(swapped)
        if measure_likeness(now_shared) <= measure_likeness(shared):
            forms, shared = swapped, now_shared
    return forms


def deal_forms(generator: np.random.RandomState) -> list[tuple[str, Form]]:
    """Deal each role its forms, role by role so that each holds all values; give (role, form) pairs."""
    roles = [role for role, size in ROLE_SIZES.items() for _ in range(size)]
    decks = [deal_values(size, generator) for size in ROLE_SIZES.values()]
    table = spread_forms(np.concatenate(decks), roles, generator)
    groups = GROUPS.items()
    forms = [{g: values[number] for (g, values), number in zip(groups, row, strict=True)} for row in table]
    return list(zip(roles, forms, strict=True))


def add_second_form(form: Form, generator: np.random.RandomState) -> tuple[tuple[Form, ...], tuple[int, ...]]:
    """Give some classes a second form that recolours three parts."""
    recolored = dict(form)
    for part in shuffle(list(PARTS), generator)[:3]:
        others = [color for color in COLORS if color != form[f"{part} color"]]
        recolored[f"{part} color"] = others[int(generator.randint(0, len(others)))]
    share = 60 + 5 * int(generator.randint(0, 4))
    two_forms = int(generator.randint(0, TWO_FORM_SHARE)) == 0
    return ((form, recolored), (share, 100 - share)) if two_forms else ((form,), (100,))


@lru_cache(maxsize=1)
def list_classes() -> tuple[BirdClass, ...]:
    """Make all classes; roles lie scattered over the class numbers."""
    generator = np.random.RandomState(CLASS_SEED)
    return tuple(
        BirdClass(name, role, *add_second_form(form, generator))
        for name, (role, form) in zip(BIRD_NAMES, shuffle(deal_forms(generator), generator), strict=True)
    )


def rate_strengths() -> np.ndarray:
    """Rate each class on each attribute, 0..100 as CUB's raters did, not quite sure of anything: [C, K]."""
    generator = np.random.RandomState(CLASS_SEED + 1)
    strengths = np.zeros((CLASS_COUNT, len(list_attributes())))
    for bird, row in zip(list_classes(), strengths, strict=True):
        values = ((group, value) for group, values in GROUPS.items() for value in values)
        for column, (group, value) in enumerate(values):
            forms = zip(bird.forms, bird.shares, strict=True)
            shown = sum(share for form, share in forms if form[group] == value)
            sureness, doubt = int(generator.randint(88, 101)), int(generator.randint(0, 50))
            row[column] = shown * sureness / 100 if shown else doubt / 10
    return strengths
