"""The table of torchvision's networks that give region maps. Loads no torch, so that names are known at once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Networks of one kind: where the map is, how many pixels a region spans, whether values may be negative."""

    layer: str
    stride: int
    signed: bool
    channels: dict[str, int]


FAMILIES = (  # where a network has several of these layers, the first one counts
    Family(
        "layer4",
        32,
        False,
        {"resnet18": 512, "resnet34": 512}
        | dict.fromkeys(("resnet50", "resnet101", "resnet152"), 2048)
        | dict.fromkeys(("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"), 2048)
        | dict.fromkeys(("wide_resnet50_2", "wide_resnet101_2"), 2048),
    ),
    Family(
        "trunk_output",
        32,
        False,
        {
            **{"regnet_x_400mf": 400, "regnet_x_800mf": 672, "regnet_x_1_6gf": 912, "regnet_x_3_2gf": 1008},
            **{"regnet_x_8gf": 1920, "regnet_x_16gf": 2048, "regnet_x_32gf": 2520},
            **{"regnet_y_400mf": 440, "regnet_y_800mf": 784, "regnet_y_1_6gf": 888, "regnet_y_3_2gf": 1512},
            **{"regnet_y_8gf": 2016, "regnet_y_16gf": 3024, "regnet_y_32gf": 3712, "regnet_y_128gf": 7392},
        },
    ),
    Family("layers", 32, False, dict.fromkeys((f"mnasnet{x}" for x in ("0_5", "0_75", "1_0", "1_3")), 1280)),
    Family(
        "conv5",
        32,
        False,
        {"shufflenet_v2_x2_0": 2048}
        | dict.fromkeys((f"shufflenet_v2_x{x}" for x in ("0_5", "1_0", "1_5")), 1024),
    ),
    Family(
        "norm",  # maps are [B, h, w, C] here
        32,
        True,
        {
            f"swin_{kind}": {"t": 768, "s": 768, "b": 1024}[kind[-1]]
            for kind in ("t", "s", "b", "v2_t", "v2_s", "v2_b")
        },
    ),
    Family("blocks.3", 32, True, {"maxvit_t": 512}),
    Family("encoder.ln", 16, True, {"vit_b_16": 768, "vit_l_16": 1024}),
    Family("encoder.ln", 32, True, {"vit_b_32": 768, "vit_l_32": 1024}),
    Family("encoder.ln", 14, True, {"vit_h_14": 1280}),
    Family(
        "features",
        32,
        True,
        {
            **{"convnext_tiny": 768, "convnext_small": 768, "convnext_base": 1024, "convnext_large": 1536},
            **{"efficientnet_b0": 1280, "efficientnet_b1": 1280, "efficientnet_b2": 1408},
            **{"efficientnet_b3": 1536, "efficientnet_b4": 1792, "efficientnet_b5": 2048},
            **{"efficientnet_b6": 2304, "efficientnet_b7": 2560},
            **{"efficientnet_v2_s": 1280, "efficientnet_v2_m": 1280, "efficientnet_v2_l": 1280},
            **{"densenet121": 1024, "densenet161": 2208, "densenet169": 1664, "densenet201": 1920},
            **{"mobilenet_v3_small": 576, "mobilenet_v3_large": 960},
        },
    ),
    Family(
        "features",
        32,
        False,
        {"mobilenet_v2": 1280, "alexnet": 256}
        | {f"vgg{depth}{norm}": 512 for depth in (11, 13, 16, 19) for norm in ("", "_bn")},
    ),
    Family("features", 16, False, {"squeezenet1_0": 512, "squeezenet1_1": 512}),
)
FAMILY_OF = {name: family for family in FAMILIES for name in family.channels}
