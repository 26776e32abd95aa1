"""Stage one: a frozen ResNet101 writes every image's region features to a cache, once."""
